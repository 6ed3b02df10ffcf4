"""Qwen3-Omni speaks the same in a batch, alone and streamed, and stops by itself."""

import dataclasses
import functools
import itertools
import re

import jax
import numpy as np
import pytest

from qomni_jax.codec import WaveformCodec
from qomni_jax.codec.waveform_model import init_parameters
from qomni_jax.config.decoder import AttentionConfig, DecoderConfig, FeedForwardConfig, LanguageModelConfig
from qomni_jax.config.qwen3_omni_talker import (
    NUM_SUPPRESSED,
    RELEASED_RESIDUAL_SAMPLING,
    RELEASED_SAMPLING,
    CodecTokens,
    Qwen3OmniTalkerConfig,
    SpeechTokens,
)
from qomni_jax.config.runaway import RunawayConfig
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.config.waveform_codec import (
    CodeEmbeddingConfig,
    ConvStackConfig,
    WaveformCodecConfig,
    WaveformDecoderConfig,
    WindowTransformerConfig,
)
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.qwen3_omni_speech import Piece, SpeakingGenerator, SpeakingModel, SpokenAnswer
from qomni_jax.layers.language_model import init_language_model
from qomni_jax.layers.linear import unbox
from qomni_jax.sequence.spoken_tokens import AllButTheLast
from qomni_jax.talker.qwen3_omni import init_qwen3_omni_talker

CODES, EOS, MAX_FRAMES, NEW_TOKENS = 11, 3, 16, 6  # the end of speech is one of eleven classes that are drawn
KEYS = (1, 5)  # of the draws; the first answer ends its speech, the second is stopped
START, END, LINE, USER, ASSISTANT, PAD, TTS_BOS, TTS_EOS = range(20, 28)


def decoder(feed_forward: FeedForwardConfig, *, sections: tuple[int, ...] | None) -> DecoderConfig:
    attention = AttentionConfig(
        num_heads=2, num_kv_heads=1, head_dim=8, rotary_fraction=1.0, mrope_section=sections, gated=False
    )
    return DecoderConfig(
        16, 2, ("attention",), attention=attention, feed_forward=feed_forward, zero_centred_norms=False
    )


def random_like(tree, seed: int):
    """Random parameters, matrices of variance 1 / inputs."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        scale = leaf.shape[-2] ** -0.5 if leaf.ndim > 1 else 0.3
        return rng.standard_normal(leaf.shape, np.float32) * np.float32(scale)

    return jax.tree.map(draw, tree)


@functools.cache
def speaking_model() -> SpeakingModel:
    """Two layers each; a vocabulary of 28 ids, eight of them special."""
    key = jax.random.key(0)
    dense = FeedForwardConfig(hidden_dim=16, num_experts=0)
    sparse = FeedForwardConfig(hidden_dim=8, num_experts=4, top_k=2, expert_dim=8)
    thinker = LanguageModelConfig(28, decoder(dense, sections=(2, 1, 1)))
    talker = Qwen3OmniTalkerConfig(
        decoder=decoder(sparse, sections=(2, 1, 1)),
        predictor=decoder(dense, sections=None),
        tokens=CodecTokens(20, 21, EOS, 23, 24, 25, (("ethan", 26), ("aiden", 27))),
        thinker_dim=16,
        projection_dim=16,
        vocab_size=NUM_SUPPRESSED + CODES,
        num_codebooks=3,
        codebook_size=CODES,
        accept_layer=1,
    )
    transformer = WindowTransformerConfig(
        model_dim=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, mlp_dim=8, window=4
    )
    codec = WaveformCodecConfig(
        CodeEmbeddingConfig(3, CODES, 8),
        WaveformDecoderConfig(transformer, ConvStackConfig(4, (3, 2)), upsampling_ratios=(2,), trim="both"),
    )
    shapes = (
        lambda: unbox(init_language_model(thinker, key)),
        lambda: unbox(init_qwen3_omni_talker(talker, key)),
        lambda: init_parameters(codec, key),
    )
    params = [random_like(jax.eval_shape(shape), seed) for seed, shape in enumerate(shapes)]
    last = params[2]["decoder"]["stack"]["last"]
    last |= {name: 3e-5 * value for name, value in last.items()}  # samples of the order of 0.1, none of them clipped
    tokens = SpeechTokens(START, USER, ASSISTANT, PAD, TTS_BOS, TTS_EOS)
    return SpeakingModel(thinker, params[0], talker, params[1], WaveformCodec(codec, params[2]), tokens)


def speaking_generator(
    chunk: int = 8,
    *,
    talker: SamplingConfig = RELEASED_SAMPLING,
    residual: SamplingConfig = RELEASED_RESIDUAL_SAMPLING,
    model: SpeakingModel | None = None,
    **options,
) -> SpeakingGenerator:
    """Prompts are read in chunks of so many tokens: two calls or three, by default."""
    generator = SpeakingGenerator(
        model or speaking_model(),
        capacity=32,
        max_frames=MAX_FRAMES,
        sampling=SamplingConfig(temperature=1.0, seed=1),
        talker_sampling=talker,
        residual_sampling=residual,
        **options,
    )
    generator.thinker.prefill_chunk = generator.talker.prefill_chunk = chunk
    return generator


def prompts(asked=([5, 6], [1, 2, 9, 8, 7, 4, 3, 11, 12, 13])) -> list[Prompt]:
    return [Prompt(np.array([START, USER, LINE, *ids, END, LINE, START, ASSISTANT, LINE])) for ids in asked]


def assert_streamed(generator: SpeakingGenerator, prompt: Prompt, key: int, whole: SpokenAnswer) -> list[Piece]:
    """The same answer piece by piece, and its pieces."""
    pieces = list(generator.stream(prompt, NEW_TOKENS, "Ethan", key=key))
    assert [piece.token for piece in pieces if piece.token is not None] == whole.tokens
    assert [piece.codes.tolist() for piece in pieces if piece.codes is not None] == whole.codes.tolist()
    sound = [piece.samples for piece in pieces if piece.samples is not None]
    # The same float32 sums in another order.
    np.testing.assert_allclose(np.concatenate([*sound, np.zeros(0)]), whole.samples, atol=1e-5)
    assert len(sound) == len(whole.codes)
    assert [piece.reason for piece in pieces if piece.reason] == ([whole.reason] if whole.reason else [])
    return pieces


def test_a_batch_says_what_each_row_says_alone_and_streamed():
    generator = speaking_generator()
    together = generator.answer(prompts(), NEW_TOKENS, "Ethan", keys=KEYS)
    config = generator.model.codec.config
    for prompt, key, whole in zip(prompts(), KEYS, together, strict=True):
        pieces = assert_streamed(generator, prompt, key, whole)
        assert len(whole.codes) > 1
        assert len(whole.samples) == len(whole.codes) * config.samples_per_frame - config.decoder.delay
        # Speech begins with the second token, and then there is a frame for a token as long as both go on.
        kinds = [piece.samples is not None for piece in pieces if piece.codes is None]
        assert list(itertools.islice(kinds, 4)) == [False, False, True, False]
        assert np.all(whole.codes[:, 0] < CODES)
        assert EOS not in whole.codes[:, 0]
    assert [row.reason for row in together] == ["ended", "budget"]
    assert min(len(row.codes) for row in together) < MAX_FRAMES == max(len(row.codes) for row in together)
    assert len({row.codes.tobytes() for row in together}) == 2
    # One token ends an answer: nothing is left to say.
    (only,) = generator.stream(prompts()[0], 1, "Ethan", key=KEYS[0])
    assert only == Piece(token=together[0].tokens[0])
    silent = generator.answer(prompts()[:1], 1, "Ethan", keys=KEYS[:1])[0]
    assert (silent.tokens, silent.codes.shape, silent.samples.shape, silent.reason) == (
        [only.token],
        (0, 3),
        (0,),
        None,
    )


EIGHT = [np.random.default_rng(row).integers(1, 20, 1 + row).tolist() for row in range(8)]


# The likeliest codes, with a penalty on those that were said.
GREEDY = SamplingConfig(repetition_penalty=4.0)


def lively_model() -> SpeakingModel:
    """Text and codes, eight times as large as beside the rest, decide what is said: no code is always the likeliest."""

    def scaled(path, leaf):
        name = jax.tree_util.keystr(path)
        return 8 * leaf if re.search("embed|head|projection.*kernel", name) else leaf

    model = speaking_model()
    return model._replace(talker_params=jax.tree_util.tree_map_with_path(scaled, model.talker_params))


def test_a_greedy_batch_of_eight_is_its_rows_alone_and_streamed_whatever_the_chunks():
    greedy = {"talker": GREEDY, "residual": SamplingConfig(), "model": lively_model()}
    together = speaking_generator(**greedy).answer(prompts(EIGHT), NEW_TOKENS, "Aiden", keys=range(8))
    assert len({row.codes.tobytes() for row in together}) > 4
    assert min(len(np.unique(row.codes[:, 0])) for row in together) > 2
    assert 0.01 < min(np.std(row.samples) for row in together) < max(np.std(row.samples) for row in together) < 1
    generator = speaking_generator(3, **greedy)
    in_chunks = generator.answer(prompts(EIGHT), NEW_TOKENS, "Aiden", keys=range(8))
    for one, other in zip(together, in_chunks, strict=True):
        assert (one.tokens, one.codes.tolist(), one.reason) == (other.tokens, other.codes.tolist(), other.reason)
        # As above.
        np.testing.assert_allclose(other.samples, one.samples, atol=1e-5)
    for row in (0, 7):
        prompt = prompts(EIGHT)[row]
        (alone,) = generator.answer([prompt], NEW_TOKENS, "Aiden", keys=[row])
        assert alone.codes.tolist() == together[row].codes.tolist()
        assert_streamed(generator, prompt, row, together[row])


class EvenTokens(AllButTheLast):
    """Speaks even tokens alone, and holds each back until the next."""

    def feed(self, token: int) -> list[int]:
        return [] if token % 2 else super().feed(token)

    def close(self) -> list[int]:
        return self._last


def test_the_talker_reads_what_the_gate_lets_through_and_that_to_the_last():
    generator = speaking_generator(gate=EvenTokens)
    together = generator.answer(prompts(), NEW_TOKENS, "Ethan", keys=KEYS)
    assert any(token % 2 for row in together for token in row.tokens)
    for prompt, key, whole in zip(prompts(), KEYS, together, strict=True):
        said = [token for token in whole.tokens if token % 2 == 0]
        assert_streamed(generator, prompt, key, whole)
        talker_prompt = generator.talker_prompt(prompt, said[0], generator.model.talker.tokens.speaker("Ethan"))
        text = generator.following(said)
        assert text == [*said[1:], TTS_EOS]
        (spoken,) = generator.talker.speak(
            [talker_prompt], [text], generator.thinker.prefill([prompt]).kept, MAX_FRAMES, pad=PAD, keys=[key]
        )
        assert spoken.codes.tolist() == whole.codes.tolist()


# The codec has 2,000 frames a second. Nothing is as loud as full scale, and nothing as silent as 0 dB below it.
PATIENT = RunawayConfig(1.0, 2, 1.0, 1.0, -300.0, 1.0, 1.0)
LIMITS = {
    "silence": dataclasses.replace(PATIENT, silence_seconds=0.001, silence_level=-1e-9),
    "repetition": dataclasses.replace(PATIENT, repetition_seconds=0.0005, longest_loop_seconds=0.001),
    "budget": dataclasses.replace(PATIENT, seconds_per_token=1e-9, spare_seconds=0.001),
}


@pytest.mark.parametrize("reason", LIMITS)
def test_speech_that_runs_away_is_stopped_alike_at_once_and_streamed_and_after_its_text(reason):
    greedy = {"talker": SamplingConfig(), "residual": SamplingConfig()}  # a random model that says one code for ever
    free = speaking_generator(**greedy).answer(prompts(), NEW_TOKENS, "Ethan", keys=KEYS)
    generator = speaking_generator(runaway=LIMITS[reason], **greedy)
    watched = generator.answer(prompts(), NEW_TOKENS, "Ethan", keys=KEYS)
    for prompt, key, one, whole in zip(prompts(), KEYS, free, watched, strict=True):
        assert_streamed(generator, prompt, key, whole)
        assert whole.codes.tolist() == one.codes[: len(whole.codes)].tolist()
        assert whole.reason == reason
        # Five tokens are spoken, and a frame is said once the end of the text has been read.
        assert NEW_TOKENS - 1 < len(whole.codes) < len(one.codes)


def test_a_patient_watch_changes_nothing():
    free, watched = (
        speaking_generator(runaway=runaway).answer(prompts(), NEW_TOKENS, "Ethan", keys=KEYS)
        for runaway in (None, PATIENT)
    )
    for one, other in zip(free, watched, strict=True):
        assert (one.codes.tolist(), one.reason) == (other.codes.tolist(), other.reason)
