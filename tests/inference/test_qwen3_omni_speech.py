"""Qwen3-Omni speaks the same in a batch, alone and streamed, and stops by itself."""

import itertools

import jax
import numpy as np

from qomni_jax.codec import WaveformCodec
from qomni_jax.codec.waveform_model import init_parameters
from qomni_jax.config.decoder import AttentionConfig, DecoderConfig, FeedForwardConfig, LanguageModelConfig
from qomni_jax.config.qwen3_omni_talker import NUM_SUPPRESSED, CodecTokens, Qwen3OmniTalkerConfig, SpeechTokens
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.config.waveform_codec import (
    CodeEmbeddingConfig,
    ConvStackConfig,
    WaveformCodecConfig,
    WaveformDecoderConfig,
    WindowTransformerConfig,
)
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.qwen3_omni_speech import Piece, SpeakingGenerator, SpeakingModel
from qomni_jax.inference.qwen3_omni_talker import RELEASED_RESIDUAL_SAMPLING, RELEASED_SAMPLING
from qomni_jax.layers.language_model import init_language_model
from qomni_jax.layers.linear import unbox
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
    tokens = SpeechTokens(START, USER, ASSISTANT, PAD, TTS_BOS, TTS_EOS)
    return SpeakingModel(thinker, params[0], talker, params[1], WaveformCodec(codec, params[2]), tokens)


def speaking_generator() -> SpeakingGenerator:
    generator = SpeakingGenerator(
        speaking_model(),
        capacity=32,
        max_frames=MAX_FRAMES,
        sampling=SamplingConfig(temperature=1.0, seed=1),
        talker_sampling=RELEASED_SAMPLING,
        residual_sampling=RELEASED_RESIDUAL_SAMPLING,
    )
    generator.thinker.prefill_chunk = generator.talker.prefill_chunk = 8  # prompts take two calls or three
    return generator


def prompts() -> list[Prompt]:
    asked = ([5, 6], [1, 2, 9, 8, 7, 4, 3, 11, 12, 13])
    return [Prompt(np.array([START, USER, LINE, *ids, END, LINE, START, ASSISTANT, LINE])) for ids in asked]


def test_a_batch_says_what_each_row_says_alone_and_streamed():
    generator = speaking_generator()
    together = generator.answer(prompts(), NEW_TOKENS, "Ethan", keys=KEYS)
    config = generator.model.codec.config
    for prompt, key, whole in zip(prompts(), KEYS, together, strict=True):
        pieces = list(generator.stream(prompt, NEW_TOKENS, "Ethan", key=key))
        assert [piece.token for piece in pieces if piece.token is not None] == whole.tokens
        sound = [piece.samples for piece in pieces if piece.samples is not None]
        assert len(sound) == len(whole.codes) > 1
        # The same float32 sums in another order; samples are of the order of 1.
        np.testing.assert_allclose(np.concatenate(sound), whole.samples, atol=1e-5)
        assert len(whole.samples) == len(sound) * config.samples_per_frame - config.decoder.delay
        # Speech begins with the second token, and then there is a frame for a token as long as both go on.
        kinds = [piece.samples is not None for piece in pieces]
        assert list(itertools.islice(kinds, 4)) == [False, False, True, False]
        assert np.all(whole.codes[:, 0] < CODES)
        assert EOS not in whole.codes[:, 0]
    assert min(len(row.codes) for row in together) < MAX_FRAMES
    assert len({row.codes.tobytes() for row in together}) == 2
    # One token ends an answer: nothing is left to say.
    (only,) = generator.stream(prompts()[0], 1, "Ethan", key=KEYS[0])
    assert only == Piece(token=together[0].tokens[0])
