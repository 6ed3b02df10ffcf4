"""Configurations that cannot be rendered are refused by name; presets are what they say."""

import dataclasses
import json

import pytest

from data_pipelines.rendered_media.config import PRESETS, RenderedMediaConfig, SplitConfig
from data_pipelines.speech_corpus.grammar import NATO_WORDS
from data_pipelines.speech_corpus.sentences import is_held_out


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    config = PRESETS[name]()
    assert RenderedMediaConfig.from_dict(json.loads(json.dumps(dataclasses.asdict(config)))) == config
    assert {split.name: split.held_out for split in config.splits} == {"train": False, "seen": False, "held_out": True}


def test_there_are_held_out_sentences_of_a_single_word():
    assert 0 < sum(map(is_held_out, NATO_WORDS)) < len(NATO_WORDS) / 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 33}, "side = 33: accepted is an even number"),
        ({"grids": (4,)}, r"grids = \(4,\): accepted is 2, 3 or both"),
        ({"sentences": ("text",)}, "accepted is nato, grammar"),
        ({"min_seconds": 1}, "min_seconds = 1: accepted is 2 or more"),
        ({"max_seconds": 4}, "max_seconds = 4: accepted is 5 or more, with these words"),
        ({"max_spoken_words": 1}, "max_spoken_words = 1: accepted is min_spoken_words = 2 to 8"),
        ({"container": "avi"}, "container = 'avi': accepted is one of mkv, mp4"),
        ({"voices": ("de",)}, "voice 'de' does not speak 'en'"),
        ({"min_rate": 60}, "min_rate = 60: accepted is 120 to"),
        ({"version": "1"}, "version = '1'"),
        ({"splits": ()}, "splits = "),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_what_cannot_be_rendered_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        RenderedMediaConfig(**{"splits": (SplitConfig("train", 1, 1),), **changes})


@pytest.mark.parametrize(("name", "pictures", "clips"), [("Train", 1, 1), ("train", -1, 1), ("train", 0, 0)])
def test_splits_of_nothing_are_refused(name, pictures, clips):
    with pytest.raises(ValueError, match="SplitConfig"):
        SplitConfig(name, pictures, clips)
