"""Fixed rate: blocks of n text tokens and m frames in one stream (GLM-4-Voice 13:26, CosyVoice 2 5:15).

When the text is over, the remaining frames follow. When speech is over before the text, a TEXT class in place of a
frame leaves the rest of a block unfilled.
"""

from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.talker import InterleaverConfig
from qomni_jax.talker.interleaver import NO_TIMES, NONE, TEXT, Allowed, Layout, StreamState, TextTimes, single_stream


class FixedRate:
    """One stream, one rate for every item."""

    def __init__(self, config: InterleaverConfig):
        self.config = config

    def layout(self, num_text: int, num_frames: int, rng: np.random.Generator, times: TextTimes = NO_TIMES) -> Layout:
        c = self.config
        text_step = np.arange(num_text) // c.text_block * c.speech_block + np.arange(num_text)
        frame_step = (np.arange(num_frames) // c.speech_block + 1) * c.text_block + np.arange(num_frames)
        steps = np.argsort(np.concatenate([text_step, frame_step]), kind="stable") < num_text
        layout = single_stream(steps, num_frames)
        scheduled = layout.target == TEXT
        fill = np.cumsum(~steps) == num_frames  # all frames are out, text is left
        scheduled[1:] &= ~fill
        return layout._replace(target=np.where(scheduled, NONE, layout.target))

    def allow(self, state: StreamState) -> Allowed:
        c = self.config
        reading = (state.frames + state.since_frame == 0) | (state.since_frame > 0)
        due = jnp.where(reading, state.since_frame < c.text_block, state.since_text >= c.speech_block)
        ended = state.text_ended
        return Allowed(speech=ended | ~due, text=~ended, end=ended)

    def rides(self, state: StreamState) -> Array:
        return jnp.zeros_like(state.text_ended)
