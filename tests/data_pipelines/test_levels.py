"""Recordings at a level that is drawn: what they hold, and that other corpora keep every byte."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipelines.speech_codes.codes import open_codes, write_codes
from data_pipelines.speech_corpus.builder import build_corpus, open_corpus
from data_pipelines.speech_corpus.config import CorpusConfig, SplitConfig
from data_pipelines.speech_corpus.presets import demo_corpus, voices_corpus
from data_pipelines.speech_corpus.sentences import draw_utterance
from data_pipelines.speech_corpus.synthesis import at_level
from data_pipelines.speech_corpus.variants import HELD_OUT_VARIANTS, TRAINED_VARIANTS

PLAIN = SplitConfig("train", 8, 2, 3, 200, 270, ("en-us+klatt6", "en-us+f1"))
LEVELLED = dataclasses.replace(PLAIN, min_level=-30, max_level=-18)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_corpus(CorpusConfig((LEVELLED,)), tmp_path_factory.mktemp("levels"), workers=1)


def test_records_are_as_loud_as_they_say(corpus):
    levels = []
    for record in corpus.split("train"):
        measured = 10 * np.log10(np.mean((record["audio"] / 32_768) ** 2))
        assert measured == pytest.approx(record["level"], abs=0.2)  # peaks beyond full scale are clipped
        levels.append(record["level"])
    assert -30 <= min(levels) < max(levels) <= -18
    assert open_corpus(corpus.directory).config.has_levels


def test_codes_keep_pitch_and_level(corpus, tmp_path):
    def encode(audios):
        return [np.zeros((3, 2), np.uint16) for _ in audios]

    write_codes(corpus, tmp_path / "codes", encode, codec="a")
    for spoken, record in zip(corpus.split("train"), open_codes(tmp_path / "codes").split("train"), strict=True):
        assert (record["pitch"], record["level"]) == (spoken["pitch"], spoken["level"])


def test_a_corpus_without_levels_is_what_it_was_before_there_were_any():
    """Its config, which is part of it, does not name them; its utterances are those that have a level, too."""
    written = json.dumps(demo_corpus().as_dict())
    assert "level" not in written
    assert CorpusConfig.from_dict(json.loads(written)) == demo_corpus()
    plain, levelled = CorpusConfig((PLAIN,)), CorpusConfig((LEVELLED,))
    for index in range(8):
        ours, theirs = draw_utterance(levelled, LEVELLED, index), draw_utterance(plain, PLAIN, index)
        assert theirs.level is None
        assert dataclasses.replace(ours, level=None) == theirs
    assert CorpusConfig.from_dict(json.loads(json.dumps(levelled.as_dict()))) == levelled


def test_level_is_a_gain_and_silence_stays():
    audio = (3000 * np.sin(np.arange(4000) / 7)).astype(np.int16)
    quiet, loud = at_level(audio, -40), at_level(audio, -20)
    np.testing.assert_allclose(loud, 10.0 * quiet, atol=6)  # ten times a rounding of half a step
    assert not at_level(np.zeros(10, np.int16), -20).any()
    assert np.abs(at_level(audio, 0).astype(int)).max() == 32_768  # clipped


def test_no_voice_of_the_test_is_in_training():
    splits = {split.name: set(split.voices) for split in voices_corpus().splits}
    assert not splits["test_voices"] & splits["train"]
    assert splits["test_sentences"] == splits["train"]
    assert (len(splits["train"]), len(splits["test_voices"])) == (len(TRAINED_VARIANTS), len(HELD_OUT_VARIANTS))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_level": -60, "max_level": -20}, "min_level = -60: accepted is -50 to -15 dB"),
        ({"min_level": -30, "max_level": -10}, "max_level = -10"),
        ({"min_level": -20, "max_level": -30}, "max_level = -30: accepted is min_level = -20"),
        ({"min_level": -20}, "max_level = None"),
        ({"max_level": -20}, "min_level = None"),
    ],
)
def test_levels_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **fields)


def test_splits_with_and_without_levels_do_not_mix():
    with pytest.raises(ValueError, match="all have levels, or none"):
        CorpusConfig((PLAIN, dataclasses.replace(LEVELLED, name="other")))
