"""Causal ConvNeXt vocoder with an inverse-STFT head: log-mel frames to samples, whole or frame by frame.

Follows the Vocos generator (Siuzdak 2023) with causal convolutions. Look-ahead is a delay: at stream time t the
network emits spectrum frame t - look_ahead, so state is only what lies in the past and any chunking gives the same
samples. Spectrum frames before the recording's start are silenced.
"""

import math

import flax.linen as nn
from flax.typing import Initializer
import jax
import jax.numpy as jnp

from qomni_jax.codec.istft import synthesis_frames
from qomni_jax.config.codec import VocoderConfig
from qomni_jax.ops.overlap_add import overlap_add

State = dict[str, jax.Array]

_LEVEL_SCALE = 0.2
_MAX_LOG_MAGNITUDE = 7.0


def initial_state(batch: int, config: VocoderConfig, num_mels: int) -> State:
    """State of `batch` streams that have seen nothing: convolution contexts, overlap-add tail, frames seen."""
    past = config.kernel_size - 1
    return {
        "inputs": jnp.zeros((batch, past, num_mels)),
        "blocks": jnp.zeros((config.num_blocks, batch, past, config.width)),
        "tail": jnp.zeros((batch, config.window_size - config.hop_size)),
        "time": jnp.zeros((batch,), jnp.int32),
    }


def with_past(frames: jax.Array, past: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Puts the carried context before new frames, `[B, T, D]` and `[B, P, D]` -> `[B, P + T, D]`, next context."""
    joined = jnp.concatenate([past, frames], axis=1)
    return joined, joined[:, joined.shape[1] - past.shape[1] :]


def depthwise_conv(frames: jax.Array, kernel: jax.Array) -> jax.Array:
    """Per-channel convolution without padding, `[B, K - 1 + T, D]` with `[K, D]` -> `[B, T, D]`."""
    time = frames.shape[1] - kernel.shape[0] + 1
    taps = [frames[:, k : k + time] * kernel[k] for k in range(kernel.shape[0])]
    return sum(taps[1:], start=taps[0])


class ConvNeXtBlock(nn.Module):
    """Causal ConvNeXt block: depthwise convolution, LayerNorm, MLP, layer scale, residual."""

    config: VocoderConfig

    @nn.compact
    def __call__(self, frames: jax.Array, past: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Frames `[B, T, width]` after the context `past` `[B, K - 1, width]` -> frames, next context."""
        config = self.config
        hidden_width = config.expansion * config.width
        logical = nn.with_logical_partitioning
        taps_init = logical(nn.initializers.normal(1 / math.sqrt(config.kernel_size)), (None, "embed"))
        taps = self.param("taps", taps_init, (config.kernel_size, config.width))
        layer_scale = self.param(
            "layer_scale", logical(nn.initializers.constant(1 / config.num_blocks), ("embed",)), (config.width,)
        )
        joined, past = with_past(frames, past)
        hidden = _layer_norm("norm")(depthwise_conv(joined, taps))
        hidden = nn.gelu(_dense(hidden_width, ("embed", "mlp"), "expand")(hidden))
        return frames + layer_scale * _dense(config.width, ("mlp", "embed"), "contract")(hidden), past


class Vocoder(nn.Module):
    """Log-mel frames to samples; one module for whole recordings and for streams."""

    config: VocoderConfig
    num_mels: int

    @nn.compact
    def __call__(self, mel: jax.Array, state: State) -> tuple[jax.Array, State]:
        """Continues streams by T mel frames, log-mel above silence `[B, T, num_mels]` -> samples `[B, T * hop]`, state.

        `mel` is log-mel minus the logarithm of the clip, so zero frames are silence: what precedes and follows a
        recording. The samples come `config.delay` late: the first `delay` of a stream precede the recording.
        """
        config = self.config
        joined, inputs = with_past(mel * _LEVEL_SCALE, state["inputs"])
        time = mel.shape[1]
        unfolded = jnp.concatenate([joined[:, k : k + time] for k in range(config.kernel_size)], axis=-1)
        frames = _layer_norm("embed_norm")(_dense(config.width, ("mel", "embed"), "embed")(unfolded))
        contexts = []
        for index in range(config.num_blocks):
            frames, context = ConvNeXtBlock(config, name=f"block_{index}")(frames, state["blocks"][index])
            contexts.append(context)
        frames = _layer_norm("head_norm")(frames)
        bins = config.window_size // 2 + 1
        head = _dense(2 * bins, ("embed", "stft"), "head", nn.initializers.normal(0.02))(frames)
        magnitude = jnp.exp(jnp.minimum(head[..., :bins], _MAX_LOG_MAGNITUDE))
        spectrum = magnitude * jnp.exp(1j * head[..., bins:])
        begun = state["time"][:, None] + jnp.arange(time) >= config.look_ahead
        windows = synthesis_frames(spectrum, config.window_size, config.hop_size) * begun[..., None]
        samples, tail = overlap_add(windows, state["tail"], config.hop_size)
        next_state = {
            "inputs": inputs,
            "blocks": jnp.stack(contexts),
            "tail": tail,
            "time": state["time"] + time,
        }
        return samples, next_state


def _layer_norm(name: str) -> nn.Module:
    logical = nn.with_logical_partitioning
    return nn.LayerNorm(
        epsilon=1e-6,
        scale_init=logical(nn.initializers.ones, ("embed",)),
        bias_init=logical(nn.initializers.zeros, ("embed",)),
        name=name,
    )


def _dense(features: int, axes: tuple[str, str], name: str, kernel_init: Initializer | None = None) -> nn.Module:
    logical = nn.with_logical_partitioning
    return nn.Dense(
        features,
        kernel_init=logical(kernel_init or nn.initializers.lecun_normal(), axes),
        bias_init=logical(nn.initializers.zeros, axes[1:]),
        name=name,
    )
