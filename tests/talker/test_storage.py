"""A Talker on disk: what is saved comes back, whole or not at all; what is missing is one clear error."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from qomni_jax.storage.errors import CheckpointError
from qomni_jax.talker.storage import open_talker, save_talker
from tests.talker.voices import stored_talker


@pytest.fixture(scope="module")
def stored():
    return stored_talker()


@pytest.fixture(scope="module")
def saved(stored, tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "talker"
    save_talker(directory, stored)
    return directory


def test_all_of_it_comes_back(stored, saved):
    found = open_talker(saved)
    assert (found.config, found.interleaver, found.speech) == (stored.config, stored.interleaver, stored.speech)
    jax.tree.map(np.testing.assert_array_equal, found.params, stored.params)
    jax.tree.map(np.testing.assert_array_equal, found.codec.params, stored.codec.params)
    assert found.codec.config == stored.codec.config
    np.testing.assert_array_equal(found.tokenizer.encode("alpha bravo"), stored.tokenizer.encode("alpha bravo"))
    assert found.durations.shape == (stored.config.text_vocab_size,)
    assert [path.name for path in saved.parent.iterdir()] == ["talker"]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "codec", "parameters"])
def test_what_is_missing_is_named(saved, tmp_path, name):
    copy = tmp_path / "talker"
    shutil.copytree(saved, copy)
    (shutil.rmtree if (copy / name).is_dir() else lambda path: path.unlink())(copy / name)
    with pytest.raises(CheckpointError, match=name) as caught:
        open_talker(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_of_something_else_is_refused(saved, tmp_path):
    copy = tmp_path / "talker"
    shutil.copytree(saved, copy)
    text = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**text, "format": "qomni_jax thinker"}))
    with pytest.raises(CheckpointError, match="format = 'qomni_jax thinker': accepted is 'qomni_jax talker'"):
        open_talker(copy)
    (copy / "config.json").write_text(json.dumps({**text, "speech": {**text["speech"], "slow_rate": 0.0}}))
    with pytest.raises(CheckpointError, match=r"SpeechConfig\.slow_rate = 0\.0"):
        open_talker(copy)


def test_parts_that_do_not_fit_leave_nothing_behind(stored, tmp_path):
    short = dataclasses.replace(stored.speech, durations=stored.speech.durations[1:])
    with pytest.raises(CheckpointError, match=r"durations: accepted is config\.text_vocab_size"):
        save_talker(tmp_path / "talker", dataclasses.replace(stored, speech=short))
    other = dataclasses.replace(stored.config, codebook_size=64)
    with pytest.raises(CheckpointError, match="32 codec entries"):
        save_talker(tmp_path / "talker", dataclasses.replace(stored, config=other))
    assert not list(tmp_path.iterdir())
