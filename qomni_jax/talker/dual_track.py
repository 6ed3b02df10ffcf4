"""Dual track: at each step the next text token and the last frame are one summed input (Qwen3-Omni, Qwen3-TTS).

At a steady pace text comes one token every `text_stretch` frames, and ends early or late; then its track is padded. At
the expected pace each token comes when it is expected to be spoken. With `text_delay` the first frame waits for that
many more text tokens, and all come that much sooner.
"""

from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.talker import InterleaverConfig
from qomni_jax.talker.interleaver import END_OF_SPEECH, NO_TIMES, NONE, TEXT, Allowed, Layout, StreamState, TextTimes


class DualTrack:
    """Two tracks, one clock."""

    def __init__(self, config: InterleaverConfig):
        self.config = config

    def layout(self, num_text: int, num_frames: int, rng: np.random.Generator, times: TextTimes = NO_TIMES) -> Layout:
        c = self.config
        ahead = min(1 + c.text_delay, num_text)
        late = np.arange(num_text - ahead)
        with_frame = self._frames_to_ride(num_text, ahead, times)  # of the text tokens after the first ones
        unspoken = int(np.sum(with_frame >= num_frames))  # text left when the frames are over
        size = 1 + ahead + num_frames + unspoken
        text, frame, target = (np.full(size, NONE, np.int32) for _ in range(3))
        text[1 : 1 + ahead] = np.arange(ahead)
        frame[1 + ahead : 1 + ahead + num_frames] = np.arange(num_frames)
        riding = late[with_frame < num_frames]
        text[1 + ahead + with_frame[riding]] = ahead + riding
        text[1 + ahead + num_frames :] = np.arange(num_text - unspoken, num_text)
        target[:ahead] = TEXT
        target[ahead : ahead + num_frames] = np.arange(num_frames)
        target[ahead + num_frames : -1] = TEXT
        target[-1] = END_OF_SPEECH
        return Layout(text, frame, target)

    def _frames_to_ride(self, num_text: int, ahead: int, times: TextTimes) -> np.ndarray:
        late = np.arange(num_text - ahead)
        if self.config.text_pace == "steady":
            return (late + 1) * self.config.text_stretch - 1
        if times.expected is None:
            raise ValueError("text_pace = expected: the item has no expected times; accepted are items with them")
        due = np.ceil(times.expected[1 : 1 + late.size]).astype(int) - 1
        return np.maximum.accumulate(np.maximum(due, 0) - late) + late  # one token a frame

    def allow(self, state: StreamState) -> Allowed:
        leading = (state.text < 1 + self.config.text_delay) & ~state.text_ended
        return Allowed(speech=~leading, text=leading, end=state.text_ended)

    def rides(self, state: StreamState) -> Array:
        c = self.config
        if c.text_pace == "steady":
            due = (state.frames + 1) % c.text_stretch == 0
        else:
            index = jnp.clip(state.text - c.text_delay, 0, state.expected.shape[1] - 1)
            due = jnp.take_along_axis(state.expected, index[:, None], axis=1)[:, 0] <= state.frames + 1
        return due & ~state.text_ended
