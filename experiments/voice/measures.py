"""What can be measured of a voice without knowing what made it: rate, pitch, level, and likeness."""

from collections.abc import Sequence

import librosa
import numpy as np

from experiments.judge import HeardWord

_PITCH_RANGE = (50.0, 600.0)  # Hz
_PITCH_FRAME, _PITCH_HOP = 1024, 160
_QUIET_DB = 20.0  # below the loudest frame: no voice is looked for


def words_per_minute(heard: Sequence[HeardWord]) -> float:
    """By the first and the last word heard; NaN for fewer than two."""
    return 60 * len(heard) / (heard[-1].end - heard[0].start) if len(heard) > 1 else float("nan")


def median_pitch(audio: np.ndarray, sample_rate: int) -> float:
    """Median fundamental frequency in Hz of the louder frames of float `[n]` audio (YIN); NaN where there is none."""
    if len(audio) < _PITCH_FRAME or not np.any(audio):
        return float("nan")
    low, high = _PITCH_RANGE
    pitch = librosa.yin(audio, fmin=low, fmax=high, sr=sample_rate, frame_length=_PITCH_FRAME, hop_length=_PITCH_HOP)
    level = librosa.feature.rms(y=audio, frame_length=_PITCH_FRAME, hop_length=_PITCH_HOP)[0][: len(pitch)]
    voiced = level > level.max() * 10 ** (-_QUIET_DB / 20)
    inside = voiced & (pitch > low) & (pitch < 0.98 * high)
    return float(np.median(pitch[inside])) if inside.any() else float("nan")


def level_db(audio: np.ndarray) -> float:
    """Root mean square of float `[n]` audio in dB of full scale."""
    return float(10 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + 1e-12)) if len(audio) else float("nan")


def equal_error_rate(same: np.ndarray, different: np.ndarray) -> float:
    """The error where as many pairs of one voice are refused as pairs of two are accepted, by similarities `[n]`."""
    thresholds = np.sort(np.concatenate([same, different]))
    refused = np.searchsorted(np.sort(same), thresholds, side="left") / len(same)
    accepted = 1 - np.searchsorted(np.sort(different), thresholds, side="left") / len(different)
    place = int(np.argmin(np.abs(refused - accepted)))
    return float((refused[place] + accepted[place]) / 2)


def share_less_similar(embedding: np.ndarray, own: np.ndarray, others: np.ndarray) -> float:
    """Of other voices `[N, D]`, how many are less similar to the embedding `[D]` than its `own [D]` is (ties: half)."""
    similarity, rest = float(embedding @ own), others @ embedding
    return float(np.mean(rest < similarity) + 0.5 * np.mean(rest == similarity))
