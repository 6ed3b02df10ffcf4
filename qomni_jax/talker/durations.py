"""How long each text token is expected to last, fitted to whole utterances: texts and their numbers of frames are
enough, no alignment of the two is."""

from collections.abc import Sequence

import numpy as np

_LEAST = 0.05  # of a mean token


def fit_token_durations(
    texts: Sequence[np.ndarray], frames: Sequence[int], rates: Sequence[float], vocab_size: int
) -> np.ndarray:
    """Duration `[vocab_size]` of each token, in mean tokens: what `sum(durations[text]) * rate = frames` fits best.

    `texts` are ids `[T]`, `rates` the mean frames per text token at each utterance's speaking rate. Least squares with
    a pull towards 1 as strong as one occurrence: a token that never comes gets 1.
    """
    gram, moment = np.eye(vocab_size), np.ones(vocab_size)
    for text, count, rate in zip(texts, frames, rates, strict=True):
        ids, times = np.unique(text, return_counts=True)
        gram[np.ix_(ids, ids)] += np.outer(times, times)
        moment[ids] += times * (count / rate)
    return np.maximum(np.linalg.solve(gram, moment), _LEAST).astype(np.float32)


def expected_starts(durations: np.ndarray, num_frames: int) -> np.ndarray:
    """The frame `[T]` at which each token is expected to start, given the `durations [T]` of all, in any unit, and how
    many frames there are in all."""
    ends = np.cumsum(durations)
    return (ends - durations) * (num_frames / ends[-1]) if ends.size else ends
