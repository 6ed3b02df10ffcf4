"""Training material of the codec in memory: recordings as codec frames, and random crops of them."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from qomni_jax.audio.log_mel import as_waveform
from qomni_jax.codec.codec import Codec


@dataclasses.dataclass(frozen=True, eq=False)
class CropPool:
    """Recordings laid end to end in codec frames.

    Attributes:
      features: stacked log-mel, float32 `[N, stack * num_mels]`.
      samples: int16 `[N, samples_per_frame]`.
      starts: frames at which a crop may begin, int64; a crop never spans two recordings.
    """

    features: np.ndarray
    samples: np.ndarray
    starts: np.ndarray

    def crops(self, count: int, frames: int, step: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Crops of one training step, a function of `seed` and `step` alone.

        Returns:
          Log-mel float32 `[count, frames, stack * num_mels]`, samples int16 `[count, frames * samples_per_frame]`.
        """
        generator = np.random.default_rng((seed, step))
        rows = generator.choice(self.starts, count)[:, None] + np.arange(frames)
        return self.features[rows], self.samples[rows].reshape(count, -1)


def build_pool(recordings: Sequence[np.ndarray], codec: Codec, count: int, crop_frames: int, seed: int) -> CropPool:
    """Features of `count` recordings drawn without replacement; those shorter than a crop are padded with silence.

    Raises:
      ValueError: no recordings, or one that is not a channel of int16 or floating samples.
    """
    if not len(recordings):
        raise ValueError("codec training on 0 recordings: accepted is at least 1")
    order = np.random.default_rng((seed, 1 << 32)).permutation(len(recordings))[:count]
    features, samples, starts, offset = [], [], [], 0
    for index in np.sort(order):
        waveform = as_waveform(recordings[index])
        frames = max(codec.num_frames(len(waveform)), crop_frames)
        padded = np.zeros(frames * codec.config.samples_per_frame, np.float32)
        padded[: len(waveform)] = waveform
        features.append(codec.features(padded))
        integers = np.clip(np.round(padded * 32_768.0), -32_768, 32_767).astype(np.int16)
        samples.append(integers.reshape(frames, -1))
        starts.append(np.arange(offset, offset + frames - crop_frames + 1))
        offset += frames
    return CropPool(np.concatenate(features), np.concatenate(samples), np.concatenate(starts))
