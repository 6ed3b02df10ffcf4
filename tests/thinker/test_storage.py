"""A Thinker on disk: what is saved comes back, whole or not at all; what does not fit is one clear error."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.config.audio import AudioFeatureConfig
from qomni_jax.config.vision import ImageConfig
from qomni_jax.sequence.special_tokens import SPECIAL_TOKENS
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.storage.arrays import flat
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.thinker.storage import load_thinker, save_thinker
from tests.thinker.thinker_files import TOKENIZER, own_stored, own_thinker, random_parameters


@pytest.fixture(scope="module")
def stored():
    return own_stored()


@pytest.fixture(scope="module")
def params(stored):
    return random_parameters(stored)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return own_thinker(tmp_path_factory.mktemp("saved") / "thinker")


def test_all_of_it_comes_back(stored, params, saved):
    found, parameters, tokenizer = load_thinker(saved)
    assert found == stored
    jax.tree.map(np.testing.assert_array_equal, parameters, params)
    text = "what is <|im_end|> said?"
    np.testing.assert_array_equal(tokenizer.encode_text(text), TOKENIZER.encode_text(text))
    assert {path.name for path in saved.iterdir()} == {"config.json", "parameters", "tokenizer.json"}
    assert [path.name for path in saved.parent.iterdir()] == ["thinker"]


def test_types_are_kept_and_changed_on_request(stored, params, saved, tmp_path):
    _, narrow, _ = load_thinker(saved, dtype=jnp.bfloat16)
    assert {leaf.dtype.name for leaf in flat(narrow).values()} == {"bfloat16"}
    save_thinker(tmp_path / "half", stored, narrow, None)
    _, half, tokenizer = load_thinker(tmp_path / "half")
    jax.tree.map(np.testing.assert_array_equal, half, narrow)
    assert tokenizer is None


def test_the_talkers_tokenizer_comes_back_as_one(stored, params, tmp_path):
    tokenizer = TextTokenizer.train(["what was said?"], 300, SPECIAL_TOKENS)
    save_thinker(tmp_path / "thinker", stored, params, tokenizer)
    _, _, found = load_thinker(tmp_path / "thinker")
    assert isinstance(found, TextTokenizer)
    assert found.decode(found.encode("what was said?")) == "what was said?"


def test_a_directory_in_use_is_not_touched(stored, params, saved):
    before = (saved / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match="thinker: exists: accepted is the name of a new directory"):
        save_thinker(saved, stored, params, TOKENIZER)
    assert (saved / "config.json").read_bytes() == before


def test_a_write_that_fails_leaves_nothing(stored, params, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(TOKENIZER, "save", full)  # the last file
    with pytest.raises(OSError, match="disk full"):
        save_thinker(tmp_path / "thinker", stored, params, TOKENIZER)
    assert not list(tmp_path.iterdir())


MISFITS = {
    "features.num_mels = 80: accepted is config.audio.num_mels, 128": {"features": AudioFeatureConfig(num_mels=80)},
    "image.patch_size = 14: accepted is config.vision.patch_size, 16": {"image": ImageConfig(patch_size=14)},
}


@pytest.mark.parametrize("message", MISFITS)
def test_parts_that_do_not_fit_together(message, stored, params, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        save_thinker(tmp_path / "thinker", stored._replace(**MISFITS[message]), params, TOKENIZER)
    assert not list(tmp_path.iterdir())


def test_parameters_of_another_model(stored, params, tmp_path):
    tied = dataclasses.replace(stored.config.language_model, tie_embeddings=True)
    other = stored._replace(config=dataclasses.replace(stored.config, language_model=tied))
    with pytest.raises(CheckpointError, match=r"parameters of the Thinker: extra: language_model/lm_head/kernel$"):
        save_thinker(tmp_path / "thinker", other, params, TOKENIZER)


def test_a_tokenizer_of_another_model(stored, params, tmp_path):
    voices = [f"<|voice {number}|>" for number in range(60)]
    large = TextTokenizer.train(["what was said?"], 340, [*SPECIAL_TOKENS, *voices])
    with pytest.raises(CheckpointError, match=r"tokenizer of 340 ids: accepted are at most 298 \(vocab_size\)"):
        save_thinker(tmp_path / "thinker", stored, params, large)
    without_media = TextTokenizer.train(["what was said?"], 290)
    with pytest.raises(CheckpointError, match=r"special token '<\|audio_pad\|>': accepted is one of"):
        save_thinker(tmp_path / "thinker", stored, params, without_media)


DAMAGES = {
    "version = 2: accepted is 1": lambda text: text.update(version=2),
    "format = 'mine': accepted is 'qomni_jax thinker'": lambda text: text.update(format="mine"),
    "unknown field nap_size": lambda text: text["config"]["audio"].update(nap_size=1),
    "missing 1 required positional argument: 'vocab_size'": lambda text: text["config"]["language_model"].pop(
        "vocab_size"
    ),
    "SequenceConfig = None: accepted is an object": lambda text: text.pop("sequence"),
    "DecoderConfig.periods = 'two': accepted is int": lambda text: text["config"]["language_model"]["decoder"].update(
        periods="two"
    ),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_config_that_is_not_ours(message, saved, tmp_path):
    text = json.loads((saved / "config.json").read_text())
    DAMAGES[message](text)
    (tmp_path / "config.json").write_text(json.dumps(text))
    with pytest.raises(CheckpointError, match=message):
        load_thinker(tmp_path)


def test_files_that_are_absent_or_damaged(saved, tmp_path):
    with pytest.raises(CheckpointError, match=r"config.json: cannot be read \(No such file or directory\)"):
        load_thinker(tmp_path)
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match="its parameters cannot be read"):
        load_thinker(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer.json: accepted is a tokenizer.json"):
        load_thinker(tmp_path)
