"""ARIA: adaptive rate interleave alignment (Qwen3.5-Omni report, arXiv 2604.15804).

With T text tokens and S frames, a prefix that holds t and s of them is legal when `s * T <= t * S`: speech never runs
ahead of its share of the text. The report gives the rule; the paths inside it, the lead and the estimated rate at
inference are this project's.
"""

from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.talker import InterleaverConfig
from qomni_jax.talker.interleaver import NO_TIMES, Allowed, Layout, StreamState, TextTimes, single_stream


def is_legal(steps: np.ndarray) -> bool:
    """Whether every prefix of `steps [T + S]` (True for text) keeps `s * T <= t * S`, in whole numbers."""
    steps = np.asarray(steps, bool)
    total_text = int(steps.sum())
    total_speech = steps.size - total_text
    text, speech = np.cumsum(steps), np.cumsum(~steps)
    return bool(np.all(speech * total_text <= text * total_speech))


def path_from_arrivals(text_before: np.ndarray, num_text: int) -> np.ndarray:
    """The steps in which frame s comes once `text_before[s]` text tokens have; `[S] -> bool [T + S]`."""
    counts = np.maximum.accumulate(np.clip(text_before, 0, num_text))
    steps = np.ones(num_text + counts.size, bool)
    steps[counts + np.arange(counts.size)] = False
    return steps


def needed_text(num_text: int, num_frames: int) -> np.ndarray:
    """`[S]`: the text tokens that the rule asks for before each frame."""
    frames = np.arange(1, num_frames + 1)
    return -(-frames * num_text // num_frames) if num_frames else frames


def tight_path(num_text: int, num_frames: int, lead: int = 1) -> np.ndarray:
    """Each frame as soon as the rule allows it after `lead - 1` more text tokens than the rule asks for."""
    return path_from_arrivals(needed_text(num_text, num_frames) + lead - 1, num_text)


def burst_path(num_text: int, num_frames: int, max_burst: int, rng: np.random.Generator) -> np.ndarray:
    """Text that arrives in bursts of random size, as a language model streams it; speech as soon as the rule allows."""
    sizes = rng.integers(1, max_burst + 1, size=num_text)
    arrived = np.minimum(np.cumsum(sizes), num_text)
    needed = needed_text(num_text, num_frames)
    return path_from_arrivals(arrived[np.searchsorted(arrived, needed)] if num_text else needed, num_text)


def timed_path(starts: np.ndarray, num_frames: int, lead: int) -> np.ndarray:
    """Each text token at the frame where it starts, `lead - 1` tokens early; `starts [T]` in frames. The rule does not
    bind it."""
    return path_from_arrivals(_started(starts, num_frames) + lead - 1, starts.size)


def expected_path(starts: np.ndarray, num_frames: int, lead: int) -> np.ndarray:
    """Each text token `lead - 1` tokens before it is expected to start, and never later than the rule asks for it."""
    needed = needed_text(starts.size, num_frames)
    return path_from_arrivals(np.maximum(needed, _started(starts, num_frames) + lead - 1), starts.size)


def _started(starts: np.ndarray, num_frames: int) -> np.ndarray:
    return np.searchsorted(starts, np.arange(num_frames), side="right")


class Aria:
    """Text and speech in one stream; the Talker itself asks for text, within the rule."""

    def __init__(self, config: InterleaverConfig):
        self.config = config

    def layout(self, num_text: int, num_frames: int, rng: np.random.Generator, times: TextTimes = NO_TIMES) -> Layout:
        c = self.config
        policy = c.aria_paths[rng.integers(len(c.aria_paths))]
        if policy == "tight":
            steps = tight_path(num_text, num_frames, c.min_lead)
        elif policy == "random_lead":
            steps = tight_path(num_text, num_frames, int(rng.integers(c.min_lead, c.max_lead + 1)))
        elif policy == "bursts":
            steps = burst_path(num_text, num_frames, c.max_burst, rng)
        elif policy == "text_first":
            steps = np.arange(num_text + num_frames) < num_text
        elif policy == "expected":
            if times.expected is None:
                raise ValueError("aria_paths = expected: the item has no expected times; accepted are items with them")
            steps = expected_path(times.expected, num_frames, c.min_lead)
        else:
            if times.spoken is None:
                raise ValueError("aria_paths = word_times: the item has no word times; accepted are items with them")
            steps = timed_path(times.spoken, num_frames, c.min_lead)
        return single_stream(steps, num_frames)

    def allow(self, state: StreamState) -> Allowed:
        c = self.config
        leading = state.text < c.inference_lead
        if "word_times" in c.aria_paths:
            within = jnp.ones_like(leading)
        else:
            within = state.frames + 1 <= state.rate * c.rate_margin * state.text
        ended = state.text_ended
        return Allowed(speech=ended | (within & ~leading), text=~ended, end=ended)

    def rides(self, state: StreamState) -> Array:
        return jnp.zeros_like(state.text_ended)
