"""The codec as one Linen module: quantiser and vocoder over one set of parameters, whole or streaming."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from qomni_jax.codec.rvq import RVQ
from qomni_jax.codec.vocoder import State, Vocoder, initial_state
from qomni_jax.config.codec import CodecConfig


class CodecModel(nn.Module):
    """Log-mel -> codes -> log-mel -> samples; every method is pure and can be jitted."""

    config: CodecConfig

    def setup(self):
        num_mels = self.config.log_mel.num_mels
        self.rvq = RVQ(self.config.rvq, num_mels)
        self.vocoder = Vocoder(self.config.vocoder, num_mels)

    def __call__(self, mel: jax.Array) -> dict[str, jax.Array]:
        """Training, log-mel `[B, 8S, num_mels]` -> the intermediates of `RVQ` and `samples` `[B, S * 1280 - delay]`.

        The samples start with the recording; the last `delay`, which need mel frames after the crop, are left out.
        """
        outputs = self.rvq(mel)
        state = self.init_state(mel.shape[0])
        samples, _ = self.vocoder(self._above_silence(outputs["mel"]), state)
        return outputs | {"samples": samples[:, self.config.vocoder.delay :]}

    def encode(self, mel: jax.Array) -> jax.Array:
        """Log-mel `[B, 8S, num_mels]` -> codes int32 `[B, S, Q]`."""
        return self.rvq.encode(mel)

    def decode_mel(self, codes: jax.Array) -> jax.Array:
        """Codes int `[B, S, Q]` -> log-mel `[B, 8S, num_mels]`."""
        return self.rvq.decode(codes)

    def decode(self, codes: jax.Array, lengths: jax.Array) -> jax.Array:
        """Codes int `[B, S, Q]`, lengths int `[B]` in codec frames -> samples `[B, S * 1280]`, zero past each length.

        Each item is what a stream of its own frames, flushed at its end, gives.
        """
        mel = self._above_silence(self.rvq.decode(codes))
        frames = jnp.arange(mel.shape[1])
        mel = mel * (frames < lengths[:, None] * self.config.rvq.stack)[..., None]
        vocoder = self.config.vocoder
        mel = jnp.pad(mel, ((0, 0), (0, vocoder.flush_frames), (0, 0)))
        samples, _ = self.vocoder(mel, self.init_state(codes.shape[0]))
        total = codes.shape[1] * self.config.samples_per_frame
        samples = samples[:, vocoder.delay : vocoder.delay + total]
        return samples * (jnp.arange(total) < lengths[:, None] * self.config.samples_per_frame)

    def init_state(self, batch: int) -> State:
        """State of `batch` new streams."""
        return initial_state(batch, self.config.vocoder, self.config.log_mel.num_mels)

    def step(self, codes: jax.Array, state: State) -> tuple[jax.Array, State]:
        """One codec frame of each stream, codes int `[B, Q]` -> samples `[B, 1280]`, state.

        The samples are `config.vocoder.delay` late: drop that many at a stream's start, and take as many from `flush`.
        """
        return self.vocoder(self._above_silence(self.rvq.decode(codes[:, None])), state)

    def flush(self, state: State) -> jax.Array:
        """Last `delay` samples of each stream, `[B, delay]`; the streams are then over."""
        vocoder = self.config.vocoder
        silence = jnp.zeros((state["time"].shape[0], vocoder.flush_frames, self.config.log_mel.num_mels))
        return self.vocoder(silence, state)[0][:, : vocoder.delay]

    def _above_silence(self, mel: jax.Array) -> jax.Array:
        return mel - math.log(self.config.log_mel.clip)
