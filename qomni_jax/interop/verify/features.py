"""Goldens of what stands before the encoders: log-mel features of recordings, patches of images.

wav<n>, input_features, attention_mask, mel_filters   recordings, each padded with zeros to the longest, as the
    released extractor pads a batch; where there are frames of a recording; the filters `[bins, mels]`
image, pixel_values, image_grid_thw                   one image `[H, W, 3]`, its patches and their grid
"""

from collections.abc import Iterator
import re

import numpy as np

from qomni_jax.audio.features import encoder_features
from qomni_jax.audio.log_mel import mel_filterbank
from qomni_jax.config.audio import AudioFeatureConfig
from qomni_jax.config.vision import ImageConfig
from qomni_jax.interop.verify.golden import Golden
from qomni_jax.vision.patches import image_patches

_CONFIG = AudioFeatureConfig(floor="utterance")
_WAVE = re.compile(r"wav\d+")


def matches(names: set[str]) -> bool:
    """A file with recordings or an image, and what was made of it."""
    return {"wav0", "input_features"} <= names or {"image", "pixel_values"} <= names


def inputs(names: set[str]) -> set[str]:
    """Recordings and images."""
    return {name for name in names if _WAVE.fullmatch(name) or name == "image"}


def compute(golden: Golden, *, exact: bool = False) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor whose name is understood; `exact`: features by the same formula in float64."""
    found = _image(golden) if "image" in golden else _recordings(golden, exact)
    return ((name, found[name]) for name in golden if name in found)


def _image(golden: Golden) -> dict[str, np.ndarray]:
    patches, grid = image_patches(golden["image"], ImageConfig())
    return {"pixel_values": patches, "image_grid_thw": np.array([grid])}


def _recordings(golden: Golden, exact: bool) -> dict[str, np.ndarray]:
    waves = [golden[f"wav{number}"] for number in range(len(inputs(set(golden))))]
    longest = max(len(wave) for wave in waves)
    padded = [np.pad(wave, (0, longest - len(wave))) for wave in waves]
    starts = np.arange(_CONFIG.num_frames(longest)) * _CONFIG.hop_size
    return {
        "input_features": np.stack([_exact(wave) if exact else encoder_features(wave, _CONFIG).T for wave in padded]),
        "attention_mask": np.stack([starts < len(wave) for wave in waves]).astype(np.int32),
        "mel_filters": mel_filterbank(_CONFIG.mel).T,
    }


def _exact(wave: np.ndarray) -> np.ndarray:
    size, hop = _CONFIG.window_size, _CONFIG.hop_size
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)
    signal = np.pad(wave.astype(np.float64), size // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(signal, size)[::hop][: _CONFIG.num_frames(len(wave))]
    filters = mel_filterbank(_CONFIG.mel).T.astype(np.float64)
    mel = np.log10(np.maximum(np.abs(np.fft.rfft(frames * window)) ** 2 @ filters, 1e-10))
    return (np.maximum(mel, mel.max() - 8.0).T + 4.0) / 4.0
