"""Counting: what is counted before decoding is what is assembled."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from qomni_jax.config.sequence import qomni, qwen3_omni
from qomni_jax.sequence.assembly import assemble
from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.counting import TokenCount, count_tokens
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.media_sizes import AudioSize, ImageSize, VideoSize
from tests.sequence.conversations import CONFIGS, TOKENIZER, conversations


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=20)
@given(conversations(), st.one_of(st.none(), st.integers(0, 9)), st.booleans())
def test_the_count_is_the_length_of_the_sequence(name, case, seed, reply):
    def rng():
        return None if seed is None else np.random.default_rng(seed)

    count = count_tokens(*case, TOKENIZER, CONFIGS[name], rng=rng(), reply=reply)
    sequence = assemble(*case, TOKENIZER, CONFIGS[name], rng=rng(), reply=reply)
    assert count.total == sequence.num_tokens
    assert count == tuple(np.sum(sequence.kinds == k) for k in (Kind.TEXT, Kind.AUDIO, Kind.IMAGE, Kind.VIDEO))


def test_a_count_by_hand():
    turns = [Turn("user", (Audio(), Image(), Video(sound=True), Text("the")))]
    sizes = [AudioSize(100), ImageSize((1, 4, 6)), VideoSize((3, 2, 2), (0.0, 1.0, 2.0), 40)]
    text = 1 + len(TOKENIZER.encode_text("user\n")) + 2 + 2 + 4 + len(TOKENIZER.encode_text("the")) + 1 + 1
    assert count_tokens(turns, sizes, TOKENIZER, qwen3_omni()) == TokenCount(text, 140, 6, 3)


def test_ten_hours_of_audio_with_timestamps_fit_the_context():
    seconds = 36_000
    tokenizer = ChatTokenizer.train(
        [" seconds>"] * 4, 300
    )  # as in Qwen's vocabulary: a token a digit, one for " seconds"
    for seed in (None, 0):
        rng = None if seed is None else np.random.default_rng(seed)
        size = AudioSize(int(seconds * 6.25))
        count = count_tokens([Turn("user", (Audio(),))], [size], tokenizer, qomni(), rng=rng)
        assert count.audio == 225_000
        assert count.total < 262_144
