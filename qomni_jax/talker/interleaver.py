"""The protocol behind which the interleaving schemes stand.

A scheme says two things. For training: in which order an item's text and speech become one row of stream steps
(`layout`). For generation: which modality may come next (`allow`), and whether a text token rides along with a frame
(`rides`). Everything else (model, data order, sampling, stopping) is shared, so that schemes differ in nothing else.
"""

from typing import NamedTuple, Protocol

from jax import Array
import numpy as np

NONE = -1


class Layout(NamedTuple):
    """One item as stream steps. Step p takes `text[p]` and `frame[p]` as input and is asked for `target[p]`.

    Arrays `[P]` int32. `text`, `frame` are indices into the item's text tokens and frames, or NONE (-1).
    `target` is a frame index, TEXT, END_OF_SPEECH or NONE (no loss). Step 0 has no input: it is the prompt's last.
    """

    text: np.ndarray
    frame: np.ndarray
    target: np.ndarray


TEXT = -2  # the next step is a text token
END_OF_SPEECH = -3


class TextTimes(NamedTuple):
    """The frame at which each text token of an item starts, float `[T]`.

    `spoken`: that of its word in the recording, which takes an alignment and is for the oracle alone. `expected`: by
    mean durations (`durations.expected_starts`).
    """

    spoken: np.ndarray | None = None
    expected: np.ndarray | None = None


NO_TIMES = TextTimes()


class StreamState(NamedTuple):
    """Counts of a batch of generation streams, `[B]` each, and what is expected of their text."""

    text: Array  # int32, text tokens consumed
    frames: Array  # int32, frames produced
    since_text: Array  # int32, frames since the last text token
    since_frame: Array  # int32, text tokens since the last frame
    text_ended: Array  # bool, the end-of-text token has been consumed
    rate: Array  # float32, estimated frames per text token
    expected: Array  # [B, N] float32, the frame at which each text token that has come is expected to start


class Allowed(NamedTuple):
    """What may come next, bool `[B]` each."""

    speech: Array
    text: Array
    end: Array


class Interleaver(Protocol):
    """One scheme."""

    def layout(self, num_text: int, num_frames: int, rng: np.random.Generator, times: TextTimes = NO_TIMES) -> Layout:
        """Orders `num_text` text tokens (the last is end-of-text) and `num_frames` frames.

        Raises ValueError when the scheme needs `times` that the item does not have.
        """
        ...

    def allow(self, state: StreamState) -> Allowed:
        """What may come next in generation; jit-able."""
        ...

    def rides(self, state: StreamState) -> Array:
        """bool `[B]`: whether a frame produced in `state` takes the next text token along as one input."""
        ...


def single_stream(steps: np.ndarray, num_frames: int) -> Layout:
    """A layout with one modality a step from `steps`: bool, True for text, in stream order."""
    steps = np.asarray(steps, bool)
    text_index = np.cumsum(steps) - 1
    frame_index = np.cumsum(~steps) - 1
    text = np.where(steps, text_index, NONE)
    frame = np.where(steps, NONE, frame_index)
    target = np.append(np.where(steps, TEXT, frame_index), END_OF_SPEECH)
    start = [NONE]
    return Layout(
        np.append(start, text).astype(np.int32), np.append(start, frame).astype(np.int32), target.astype(np.int32)
    )
