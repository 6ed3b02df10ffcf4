"""Recordings as conversations: what is said and when, wherever in the recording it starts."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.transcription import (
    Spoken,
    TranscriptionConfig,
    TranscriptionReader,
    read_answer,
    spoken,
    write_answer,
)
from qomni_jax.config.audio import AudioFeatureConfig
from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.elements import Kind
from qomni_jax.sizes import audio_encoder_tiny

WORDS = st.lists(st.tuples(st.sampled_from(["alfa", "bravo", "it's"]), st.integers(0, 9999)), max_size=6)
FRAMES = 640


@pytest.fixture(scope="module")
def reader(small_corpus):
    texts = [write_answer(spoken(record), TranscriptionConfig()) for record in small_corpus.split("train")]
    tokenizer = ChatTokenizer.train(texts, 400)
    layout = SequenceConfig(audio_timestamp_interval=1.6, audio_timestamp_range=(0.8, 1.6))
    config = TranscriptionConfig(placed_rate=0.0, cropped_rate=0.0)
    return TranscriptionReader(tokenizer, AudioFeatureConfig(), audio_encoder_tiny(), layout, config)


def varied(reader, **rates):
    return dataclasses.replace(reader, config=dataclasses.replace(reader.config, **rates))


@given(WORDS)
def test_answers_are_read_as_they_were_written(words):
    said = Spoken([word for word, _ in words], [tenths / 10 for _, tenths in words])
    assert read_answer(write_answer(said, TranscriptionConfig())) == said


def test_words_without_a_time_of_their_own_are_read_with_the_one_before():
    said = read_answer("well <0.3 seconds> alfa bravo <1.2 sec")
    assert said.words == ["well", "alfa", "bravo", "<1.2", "sec"]
    assert np.isnan(said.starts[0])
    assert said.starts[1:] == [0.3] * 4


def test_speech_that_begins_later_is_said_to_begin_later(reader, small_corpus):
    record = small_corpus.split("train")[0]
    size = reader.features.num_frames(len(record["audio"]))
    seen = set()
    for seed in range(6):
        example = varied(reader, placed_rate=1.0).example(record, np.random.default_rng(seed), FRAMES)
        (recording,) = example.recordings
        assert size <= len(recording) <= FRAMES
        text = reader.tokenizer.decode(example.sequence.tokens[example.sequence.loss_weights > 0])
        answer = read_answer(text)
        assert answer.words == record["text"].split()
        lead = (len(recording) - size) * reader.features.hop_size / reader.features.sample_rate
        # To a tenth of a second, and a frame of the recording's length.
        np.testing.assert_allclose(answer.starts, spoken(record, -lead).starts, atol=0.05 + 0.011)
        seen.add(len(recording))
    assert len(seen) > 1
    alone = reader.example(record, np.random.default_rng(0), FRAMES)
    assert len(alone.recordings[0]) == size


def test_a_piece_of_a_recording_has_the_words_of_which_most_is_left(reader, small_corpus):
    records, whole, empty = small_corpus.split("train"), 0, 0
    for number in range(len(records)):
        record = records[number]
        example = varied(reader, cropped_rate=1.0).example(record, np.random.default_rng(number), 100)
        assert len(example.recordings[0]) <= 100
        text = reader.tokenizer.decode(example.sequence.tokens[example.sequence.loss_weights > 0])
        answer, words = read_answer(text), record["text"].split()
        assert " ".join(answer.words) in record["text"]
        assert all(0 <= start <= 1.0 for start in answer.starts)
        assert reader.tokenizer.decode(example.transcripts[0]) == " ".join(answer.words)
        whole += answer.words == words
        empty += not answer.words
    assert whole + empty < len(records) // 2  # pieces, most of them


def test_a_word_that_is_cut_is_said_where_most_of_it_is_left():
    marks = {"char_start": [0, 5], "char_end": [4, 10], "start_s": [0.0, 1.0], "end_s": [1.0, 2.0]}
    record = {"text": "alfa bravo", "words": {name: np.array(values) for name, values in marks.items()}}
    assert spoken(record, 0.1, 1.9) == Spoken(["alfa", "bravo"], [0.0, 0.9])
    assert spoken(record, 0.3, 2.0) == Spoken(["bravo"], [0.7])
    assert spoken(record, 0.0, 1.7) == Spoken(["alfa"], [0.0])
    assert spoken(record, 0.3, 1.7) == Spoken([], [])
    assert spoken(record, -0.5) == Spoken(["alfa", "bravo"], [0.5, 1.5])


def test_an_example_begins_with_its_prompt_and_has_a_token_for_each_piece_of_the_transcript(reader, small_corpus):
    record = small_corpus.split("train")[1]
    prompt = reader.prompt(record["audio"])
    example = reader.example(record, np.random.default_rng(0), FRAMES)
    heard = int(np.sum(example.sequence.kinds == Kind.AUDIO))
    assert (
        heard == reader.audio.num_tokens(len(example.recordings[0])) == int(np.sum(prompt.sequence.kinds == Kind.AUDIO))
    )
    head = prompt.sequence.tokens[prompt.sequence.kinds == Kind.TEXT][-3:]
    first = int(np.argmax(example.sequence.loss_weights > 0))
    np.testing.assert_array_equal(example.sequence.tokens[first - 3 : first], head)
    assert reader.tokenizer.decode(example.transcripts[0]) == record["text"]


def test_answers_may_leave_times_out():
    said = Spoken(["alfa", "bravo"], [0.0, 0.4])
    assert write_answer(said, TranscriptionConfig(timestamps=False)) == "alfa bravo"
