"""The released ancestors' codecs as one Linen module; a whole recording is a stream that is given at once.

Follows Qwen3-Omni's Code2Wav, the decoder of the Qwen3-TTS 12 Hz tokenizer, and Mimi (Défossez et al. 2024).
"""

import functools
from typing import Any

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.codec.causal_conv import CausalConv, ConvNeXtBlock, TransposedConv
from qomni_jax.codec.conv_stack import DecoderStack, EncoderStack
from qomni_jax.codec.split_rvq import CodeEmbedding, SplitRVQ
from qomni_jax.codec.window_transformer import WindowTransformer
from qomni_jax.config.waveform_codec import (
    CodeEmbeddingConfig,
    WaveformCodecConfig,
    WaveformDecoderConfig,
    WaveformEncoderConfig,
)
from qomni_jax.layers.linear import unbox


class WaveformDecoder(nn.Module):
    """Features of frames `[B, T, D]` to samples `[B, T * samples_per_frame]`.

    The first `config.delay` samples of a stream precede the recording. Sows `embedded` and `transformed`, what the
    transformer sees and gives, into the collection `intermediates`.
    """

    config: WaveformDecoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = self.config
        seen = self.variable("stream", "seen", jnp.zeros, x.shape[:1], jnp.int32)
        frames, steps = seen.value, 1
        seen.value = frames + x.shape[1]
        if c.pre_conv:
            x = CausalConv(c.transformer.width, c.pre_conv, name="pre_conv")(x)
        if c.pre_upsampling > 1:
            steps = c.pre_upsampling
            x = TransposedConv(x.shape[-1], 2 * steps, steps, depthwise=True, use_bias=False, name="pre_upsample")(x)
        self.sow("intermediates", "embedded", x)
        x = WindowTransformer(c.transformer, name="transformer")(x, frames * steps)
        self.sow("intermediates", "transformed", x)
        for index, ratio in enumerate(c.upsampling_ratios):
            steps *= ratio
            x = TransposedConv(x.shape[-1], ratio, ratio, name=f"upsample_{index}")(x)
            x = ConvNeXtBlock(name=f"conv_next_{index}")(x)
        samples = DecoderStack(c.stack, c.stack_delays, name="stack")(x, frames * steps)
        return jnp.clip(samples, -1.0, 1.0) if c.clip else samples


class WaveformEncoder(nn.Module):
    """Samples `[B, n]` to features of frames `[B, n / samples_per_frame, D]`; n is a multiple of a frame.

    `lengths [B]` of the samples are the row's. Only the last chunk of a stream may have fewer than n.
    """

    config: WaveformEncoderConfig

    @nn.compact
    def __call__(self, samples: Array, lengths: Array) -> Array:
        c = self.config
        width = c.transformer.width
        seen = self.variable("stream", "seen", jnp.zeros, samples.shape[:1], jnp.int32)
        x, lengths = EncoderStack(c.stack, width, name="stack")(samples, lengths)
        steps = seen.value
        seen.value = steps + x.shape[1]
        x = WindowTransformer(c.transformer, name="transformer")(x, steps)
        last = jnp.clip(jnp.minimum(jnp.arange(x.shape[1]), lengths[:, None] - 1), 0)
        x = jnp.take_along_axis(x, last[..., None], axis=1)
        ratio = c.downsampling
        return CausalConv(width, 2 * ratio, ratio, use_bias=False, name="downsample")(x, fresh=steps == 0)


class WaveformCodecModel(nn.Module):
    """Codes to samples and, with an encoder, samples to codes; every method goes on from the collection `stream`."""

    config: WaveformCodecConfig

    def setup(self) -> None:
        c = self.config
        quantizer = c.quantizer
        self.quantizer = CodeEmbedding(quantizer) if isinstance(quantizer, CodeEmbeddingConfig) else SplitRVQ(quantizer)
        self.decoder = WaveformDecoder(c.decoder)
        if c.encoder is not None:
            self.encoder = WaveformEncoder(c.encoder)

    def __call__(self, codes: Array) -> Array:
        """All parts once, for `init`: `codes [B, T, Q]` -> samples."""
        samples = self.decode(codes)
        if self.config.encoder is not None:
            self.encode(samples, jnp.full(samples.shape[:1], samples.shape[1]))
        return samples

    def decode(self, codes: Array) -> Array:
        """`codes [B, T, Q]` -> samples `[B, T * samples_per_frame]`, of which a stream's first `delay` are nothing."""
        features = self.quantizer.decode(codes).astype(self.config.dtype)
        self.sow("intermediates", "quantized", features)
        return self.decoder(features)

    def encode(self, samples: Array, lengths: Array) -> Array:
        """`samples [B, n]`, `lengths [B]` -> codes int32 `[B, n / samples_per_frame, Q]`, as `WaveformEncoder`."""
        return self.quantizer.encode(self.encoder(samples.astype(self.config.dtype), lengths))


def init_parameters(config: WaveformCodecConfig, key: Array) -> Any:
    """Random parameters of `WaveformCodecModel(config)`."""
    codes = jnp.zeros((1, 1, config.quantizer.num_codebooks), jnp.int32)
    return unbox(WaveformCodecModel(config).init(key, codes))["params"]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def initial_state(config: WaveformCodecConfig, method: str, batch: int) -> Any:
    """The collection `stream` of `batch` new streams of `method`, `decode` or `encode`."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), _state_shapes(config, method, batch))


def _state_shapes(config: WaveformCodecConfig, method: str, batch: int) -> Any:
    inputs: tuple[Array, ...] = (jnp.zeros((batch, 1, config.quantizer.num_codebooks), jnp.int32),)
    if method == "encode":
        inputs = (jnp.zeros((batch, config.samples_per_frame)), jnp.zeros(batch, jnp.int32))
    model = WaveformCodecModel(config)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs, method=method))["stream"]
