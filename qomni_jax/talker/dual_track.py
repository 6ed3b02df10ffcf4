"""Dual track: at each step the next text token and the last frame are one summed input (Qwen3-Omni, Qwen3-TTS).

Text runs at its own pace, one token every `text_stretch` frames, and ends early; then its track is padded. With
`text_delay` the first frame waits for that many more text tokens.
"""

from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.talker import InterleaverConfig
from qomni_jax.talker.interleaver import END_OF_SPEECH, NONE, TEXT, Allowed, Layout, StreamState


class DualTrack:
    """Two tracks, one clock."""

    def __init__(self, config: InterleaverConfig):
        self.config = config

    def layout(
        self, num_text: int, num_frames: int, rng: np.random.Generator, text_times: np.ndarray | None = None
    ) -> Layout:
        c = self.config
        ahead = min(1 + c.text_delay, num_text)
        late = np.arange(num_text - ahead)
        with_frame = (late + 1) * c.text_stretch - 1  # the frame with which a text token after the first ones rides
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

    def allow(self, state: StreamState) -> Allowed:
        leading = (state.text < 1 + self.config.text_delay) & ~state.text_ended
        return Allowed(speech=~leading, text=leading, end=state.text_ended)

    def rides(self, state: StreamState) -> Array:
        due = (state.frames + 1) % self.config.text_stretch == 0
        return due & ~state.text_ended & jnp.ones_like(state.text_ended)
