"""Sentences: drawn from seed and index alone, held-out ones apart; errors for unusable configs and text files."""

import dataclasses
import json
import pathlib

import pytest

from data_pipelines.speech_corpus.config import CorpusConfig, SplitConfig
from data_pipelines.speech_corpus.grammar import NATO_WORDS, VOCABULARIES
from data_pipelines.speech_corpus.presets import PRESETS, demo_corpus
from data_pipelines.speech_corpus.sentences import count_words, draw_utterance, is_held_out, read_sentences
from data_pipelines.speech_corpus.voices import LANGUAGES

VOICES = ("en-us+klatt6",)


def texts(config, split, count=200):
    return {draw_utterance(config, split, index).text for index in range(min(count, split.utterances))}


def test_the_spelling_alphabet_is_in_the_vocabulary_of_pocketsphinx():
    pocketsphinx = pytest.importorskip("pocketsphinx")
    dictionary = pathlib.Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")).read_text().splitlines()
    assert len(set(NATO_WORDS)) == 26
    assert set(NATO_WORDS) <= {line.split()[0] for line in dictionary}


def test_every_language_has_a_grammar_of_more_than_twenty_words():
    assert VOCABULARIES.keys() == LANGUAGES.keys()
    assert all(len(set(vocabulary.words)) > 20 for vocabulary in VOCABULARIES.values())


@pytest.mark.parametrize("preset", PRESETS)
def test_test_sentences_and_conditions_never_occur_in_training(preset):
    config = PRESETS[preset]()
    trained, tested = set(), set()
    for split in config.splits:
        (tested if split.held_out else trained).update(texts(config, split))
        assert all(is_held_out(text) == split.held_out for text in texts(config, split, 20))
    assert not trained & tested
    splits = {split.name: split for split in config.splits}
    if preset == "voices":
        return  # its test sets differ from `train` in voices alone, and not in conditions: `test_levels.py`
    training = [split for split in config.splits if not split.held_out]
    assert splits["test_long"].min_words >= 2 * splits["train"].max_words
    assert splits["test_fast"].min_rate > max(split.max_rate for split in training)
    assert splits["test_slow"].max_rate < min(split.min_rate for split in training)
    assert not set(splits["test_voice"].voices) & set(splits["train"].voices)


@pytest.mark.parametrize("preset", PRESETS)
def test_utterances_keep_to_their_split_and_are_the_same_when_drawn_again(preset):
    config = PRESETS[preset]()
    for split in config.splits:
        for index in range(20):
            utterance = draw_utterance(config, split, index)
            assert utterance == draw_utterance(config, split, index)
            assert split.min_rate <= utterance.rate_wpm <= split.max_rate
            assert split.min_pitch <= utterance.pitch <= split.max_pitch
            if utterance.language != "zh":
                assert split.min_words <= len(utterance.text.split()) <= split.max_words
        other_seed = dataclasses.replace(config, seed=1)
        assert texts(config, split, 20) != texts(other_seed, split, 20)


def test_text_files_are_read_by_line_and_split_by_held_out_sentence(tmp_path):
    path = tmp_path / "lines.txt"
    lines = [f"sentence  number {number} of the file" for number in range(200)]
    path.write_text("\ufeff" + "\n\n".join([*lines, lines[0], "two words"]), encoding="utf-8")
    splits = (
        SplitConfig("train", 60, 4, 9, 150, 200, VOICES),
        SplitConfig("test", 60, 4, 9, 150, 200, VOICES, held_out=True),
    )
    config = CorpusConfig(splits, "text", (f"en={path}",))
    assert len(read_sentences(str(path))) == 201
    train, test = (texts(config, split) for split in splits)
    assert not train & test
    assert train | test <= {" ".join(line.split()) for line in lines}
    too_long = dataclasses.replace(splits[0], min_words=50, max_words=60)
    with pytest.raises(ValueError, match="no sentences for training of 50 to 60 words"):
        draw_utterance(dataclasses.replace(config, splits=(too_long,)), too_long, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "no sentence"), (b" \n\n", "no sentence"), (b"\xff\xfe\x00", "not UTF-8"),
     (b"RIFF\x00\x01", "control characters")],
)  # fmt: skip
def test_a_text_file_that_cannot_be_used_is_named(tmp_path, content, message):
    path = tmp_path / "lines.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_sentences(str(path))
    assert repr(str(path)) in str(error.value)


def test_words_are_counted_by_character_where_none_are_written():
    assert count_words("今天天气", "zh") == 4
    assert count_words("good day", "en") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Train"}, r"SplitConfig.name = 'Train': accepted is lower-case"),
        ({"utterances": 0}, "SplitConfig.utterances = 0: accepted is a number greater than 0"),
        ({"max_words": 1}, "SplitConfig.max_words = 1: accepted is at least min_words = 2"),
        ({"min_rate": 20}, "SplitConfig.min_rate = 20: accepted is 80 to 450"),
        ({"max_pitch": 120}, "SplitConfig.max_pitch = 120"),
        ({"voices": ()}, "at least one voice"),
        ({"voices": ("en-us+nobody",)}, "unknown variant 'nobody'"),
        ({"languages": ("xx",)}, "language = 'xx': accepted is one of"),
        ({"languages": ("en", "de")}, "accepted is languages that one of voices"),
        ({"voices": ("en-us", "de")}, "accepted is voices that speak one of"),
    ],
)
def test_a_split_names_the_field_that_is_not_accepted(changes, message):
    split = SplitConfig("train", 5, 2, 3, 110, 270, VOICES)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(split, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "web"}, "CorpusConfig.source = 'web': accepted is one of grammar, nato, text"),
        ({"source": "text"}, "one LANGUAGE=PATH or more for each of en"),
        ({"text_files": ("en=a.txt",)}, "accepted is \\(\\) with this source"),
        ({"sample_rate": 44100}, "one of 8000, 16000, 22050, 24000 Hz"),
        ({"version": "1"}, "a version such as"),
        ({"splits": ()}, "at least one split"),
    ],
)
def test_a_corpus_names_the_field_that_is_not_accepted(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(demo_corpus(), **changes)


def test_a_config_of_the_wrong_type_is_a_type_error():
    with pytest.raises(TypeError, match=r"CorpusConfig\.seed = 'a'"):
        dataclasses.replace(demo_corpus(), seed="a")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_config_survives_json(preset):
    config = PRESETS[preset]()
    assert CorpusConfig.from_dict(json.loads(json.dumps(dataclasses.asdict(config)))) == config
