"""Speech that does not stop by itself, told from its frames and samples as they come."""

import math
from typing import Literal

import numpy as np

from qomni_jax.config.runaway import RunawayConfig

# Why speech is over: it ended by itself, or it was stopped.
Reason = Literal["ended", "repetition", "silence", "budget"]


class SpeechWatch:
    """Watches one utterance. `reason` is why it has to be stopped now, None as long as it is plausible.

    Nothing that comes before `end_of_text` is held against speech, so it is never stopped before its last word can
    have been said: a loop or a silence counts from there on, and the budget leaves time from there on as well. Speech
    is judged after each frame, by its codes alone where nobody passes samples.

    Args:
      config: what is plausible.
      frame_rate: frames a second.
    """

    def __init__(self, config: RunawayConfig, frame_rate: float):
        self.reason: Reason | None = None
        self._level = 10 ** (config.silence_level / 20)
        self._frames_per_token = config.seconds_per_token * frame_rate
        self._spare = config.spare_seconds * frame_rate
        self._silence_limit = config.silence_seconds * frame_rate
        self._frames = self._silent = 0
        self._budget: float | None = None
        self._periods = np.arange(1, max(1, math.floor(config.longest_loop_seconds * frame_rate)) + 1)
        # Frames that a loop of each period has to span.
        self._spans = np.maximum(config.repetition_seconds * frame_rate, config.repetitions * self._periods)
        self._recent = np.full(len(self._periods), -1)  # codes of codebook 0, the latest first
        self._equal = np.zeros(len(self._periods), np.int64)  # frames in a row that equal the one a period before

    def end_of_text(self, tokens: int) -> None:
        """The Talker has read all `tokens` that it speaks; what comes from now on is judged."""
        self._budget = max(self._frames, self._frames_per_token * tokens) + self._spare

    def frame(self, codes: np.ndarray) -> None:
        """The next frame, codes `[Q]`."""
        self._frames += 1
        if self._budget is None:
            return
        self._equal = np.where(self._recent == codes[0], self._equal + 1, 0)
        self._recent = np.concatenate([codes[:1], self._recent[:-1]])
        if np.any(self._equal + self._periods >= np.where(self._equal > 0, self._spans, np.inf)):
            self._stop("repetition")
        elif self._frames >= self._budget:
            self._stop("budget")

    def sound(self, samples: np.ndarray) -> None:
        """The samples of the latest frame, float `[n]` of full scale 1."""
        if self._budget is None or not len(samples):
            return
        is_silent = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) < self._level
        self._silent = self._silent + 1 if is_silent else 0
        if self._silent >= self._silence_limit:
            self._stop("silence")

    def _stop(self, reason: Reason) -> None:
        self.reason = self.reason or reason
