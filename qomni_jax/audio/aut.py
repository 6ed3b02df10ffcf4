"""AuT, the audio encoder: log-mel frames to one token for 16 of them (8 in the released ancestor, Qwen3-Omni).

A clip is cut into chunks that the convolutions see one by one, and its tokens into windows inside which they see each
other. A chunk is as long as any other whatever comes after the clip, and frames past a clip's end are zeros: what a
clip gives depends on nothing else in the batch. Nothing reaches over the end of a window, so a window's tokens are
final once its frames are known (`audio.stream`).
"""

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.audio import AudioEncoderConfig
from qomni_jax.layers.encoder import Encoder, EncoderMLP, RowContext
from qomni_jax.layers.linear import LayerNorm, projection, with_axes
from qomni_jax.ops.conv2d import halving_conv2d
from qomni_jax.ops.gelu import exact_gelu

# A window longer than any clip; small enough for sums of int32.
FULL_WINDOW = 2**30


class AudioEncoder(nn.Module):
    """`features [B, F, mels]`, `frames [B]` of them a clip -> tokens `[B, num_tokens(F), D]` and their number `[B]`.

    Tokens past a clip's own are 0. `window`, in tokens, takes the place of the configured one: an int, or a traced
    whole number with which one compiled program serves all windows (`sample_window`). Sows `embedded`, what the first
    block sees, into the collection `intermediates`.

    Raises ValueError for features of another shape.
    """

    config: AudioEncoderConfig

    @nn.compact
    def __call__(self, features: Array, frames: Array, window: int | Array | None = None) -> tuple[Array, Array]:
        c = self.config
        if features.ndim != 3 or features.shape[2] != c.num_mels or not features.shape[1]:
            raise ValueError(f"audio features {features.shape}: accepted is [clips, frames, {c.num_mels}], 1 or more")
        batch, steps = features.shape[:2]
        lengths = c.num_tokens(frames.astype(jnp.int32))
        features = jnp.where((jnp.arange(steps) < frames[:, None])[..., None], features, 0).astype(c.dtype)
        features = jnp.pad(features, ((0, 0), (0, -steps % c.chunk_frames), (0, 0)))
        x = ChunkEmbedding(c, name="chunks")(features.reshape(-1, c.chunk_frames, c.num_mels))
        x = x + sinusoids(c.tokens_per_chunk, c.encoder.model_dim).astype(x.dtype)
        x = x.reshape(batch, -1, c.encoder.model_dim)[:, : c.num_tokens(steps)]
        self.sow("intermediates", "embedded", x)
        window = c.window if window is None else window
        static, traced = (window, None) if window is None or isinstance(window, int) else (None, window)
        x, _ = Encoder(c.encoder, static, name="encoder")(x, RowContext(lengths, traced))
        x = LayerNorm(c.encoder.norm_eps, name="ln_post")(x)
        if c.projector == "mlp":
            x = EncoderMLP(c.encoder.model_dim, c.output_dim, name="projector")(x)
        else:
            x = projection(c.output_dim, "projector", ("embed", None), use_bias=True)(x)
        return jnp.where((jnp.arange(x.shape[1]) < lengths[:, None])[..., None], x, 0), lengths


class ChunkEmbedding(nn.Module):
    """`[N, chunk_frames, mels] -> [N, tokens_per_chunk, D]`: convolutions with GELU, then a linear map without bias."""

    config: AudioEncoderConfig

    @nn.compact
    def __call__(self, chunks: Array) -> Array:
        c = self.config
        weights = []
        for number in range(1, c.num_convs + 1):
            fan_in = 9 * (c.conv_channels if number > 1 else 1)
            weights.append(_ConvWeights(fan_in, c.conv_channels, name=f"conv{number}")())

        def convolve(x: Array) -> Array:
            x = x[..., None]
            for kernel, bias in weights:
                x = halving_conv2d(x, kernel.astype(x.dtype), bias.astype(x.dtype))
                x = exact_gelu(x)
            return x

        if len(chunks) <= c.conv_batch:
            x = convolve(chunks)
        else:
            x = jax.lax.map(lambda chunk: convolve(chunk[None])[0], chunks, batch_size=c.conv_batch)
        x = x.swapaxes(2, 3).reshape(*x.shape[:2], -1)  # channels outside, frequencies inside
        return projection(c.encoder.model_dim, "conv_out", (None, "embed"))(x)


class _ConvWeights(nn.Module):
    """Kernel `[fan_in, channels]` and bias of one convolution."""

    fan_in: int
    channels: int

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
        return (
            self.param("kernel", with_axes(init, (None, "conv")), (self.fan_in, self.channels)),
            self.param("bias", with_axes(nn.initializers.zeros, ("conv",)), (self.channels,)),
        )


def sinusoids(length: int, channels: int) -> np.ndarray:
    """Positions `[length, channels]` float32: sines, then cosines, wavelengths from 2 pi to 20,000 pi (Whisper)."""
    half = channels // 2
    angles = np.arange(length)[:, None] * 10_000.0 ** (-np.arange(half) / (half - 1))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def sample_window(config: AudioEncoderConfig, key: Array) -> Array:
    """The window of one training step, int32: uniform over `training_windows`, or the whole clip.

    Traced, so that every step runs the same program. Source: AuT is trained with windows of varying length, so that it
    serves streams as well as whole recordings.
    """
    first, second = jax.random.split(key)
    low, high = config.training_windows
    drawn = jax.random.randint(first, (), low, high + 1)
    return jnp.where(jax.random.bernoulli(second, config.full_window_rate), FULL_WINDOW, drawn)
