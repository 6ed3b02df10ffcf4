"""Streams of a hybrid Talker with random weights, one frame a call: what the benches of speech time."""

import dataclasses

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from experiments.bench.devices import initialise
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.config.talker import InterleaverConfig, TalkerConfig
from qomni_jax.inference.talker_stream import TalkerStreamer
from qomni_jax.talker.talker import StreamInput, init_talker

PROMPT, TEXT_TOKENS = 2, 64
_SAMPLING = SamplingConfig(temperature=0.9, top_k=50)
_END_OF_TEXT = 0


class HybridStream:
    """`rows` streams in step, each with room for `capacity` steps. Layers have arrays of their own."""

    def __init__(self, config: TalkerConfig, rows: int, capacity: int):
        parts = {name: dataclasses.replace(getattr(config, name), stacked=False) for name in ("decoder", "residual")}
        self.config = dataclasses.replace(config, max_positions=capacity, **parts)
        self.streamer = TalkerStreamer(self.config, InterleaverConfig(), _SAMPLING, _END_OF_TEXT)
        self.params = initialise(lambda: init_talker(self.config, jax.random.key(0)))
        self.text = jnp.asarray(np.random.default_rng(0).integers(5, 100, (rows, TEXT_TOKENS), np.int32))
        self.durations = jnp.ones(config.text_vocab_size)
        self.rows = rows
        self.start()

    def start(self) -> None:
        """Reads the prompt; no text has come."""
        text = self.text[:, :PROMPT]
        none = jnp.zeros_like(text)
        prompt = StreamInput(text, jnp.zeros((*text.shape, self.config.num_codebooks), jnp.int32), none)
        keys = jax.random.split(jax.random.key(1), self.rows)
        limit = jnp.full(self.rows, self.config.max_positions, jnp.int32)
        self.arrived = jnp.zeros(self.rows, jnp.int32)
        self.carry = self.streamer.prefill(self.params, prompt, None, jnp.full(self.rows, 3.0), limit, keys)

    def seen(self, steps: int) -> None:
        """As if so many steps were in the cache, and all text had been said: only frames follow."""
        cache = self.carry.cache._replace(lengths=jnp.full(self.rows, steps, jnp.int32))
        state = self.carry.state._replace(text_ended=jnp.ones(self.rows, bool))
        self.carry = self.carry._replace(cache=cache, position=jnp.full(self.rows, steps), state=state)

    def frame(self) -> Array:
        """The next step of the stream, which costs the same whatever it decides; codes `[rows, Q]`."""
        self.carry, event = self.streamer.step(self.params, self.carry, self.text, self.arrived, self.durations)
        return event.codes

    def first_frame(self, lead: int) -> np.ndarray:
        """Codes `[rows, Q]` of the step behind `lead` tokens of text, which is that of the first frame."""
        self.arrived = jnp.full(self.rows, lead, jnp.int32)
        for _ in range(lead):
            self.frame()
        return np.asarray(self.frame())
