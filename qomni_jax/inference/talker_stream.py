"""Speech from text, step by step: one compiled step serves the batch loop and the live session alike."""

import functools
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.config.talker import InterleaverConfig, TalkerConfig
from qomni_jax.config.validation import require
from qomni_jax.layers.decoder import Cache, empty_cache
from qomni_jax.ops.sampling import sample
from qomni_jax.talker.interleaver import StreamState
from qomni_jax.talker.schemes import make_interleaver
from qomni_jax.talker.talker import StreamInput, Talker, end_class, text_class

NOTHING, TEXT, FRAME, END, STARVED = 0, 1, 2, 3, 4


class Event(NamedTuple):
    """What one step did, `[B]`: `kind` is NOTHING, TEXT, FRAME, END or STARVED (text is wanted and none has come).

    `codes [B, Q]` holds the frame where there is one. `with_text`: the frame took a text token along (dual track).
    """

    kind: Array
    codes: Array
    with_text: Array


class StreamCarry(NamedTuple):
    """Everything that a batch of streams carries from step to step."""

    cache: Cache
    position: Array  # [B] steps in the cache
    state: StreamState
    logits: Array  # [B, K + 2] for the next decision
    hidden: Array  # [B, D]
    done: Array  # [B]
    limit: Array  # [B] frames after which a row is stopped
    keys: Array  # [B] PRNG keys


class TalkerStreamer:
    """Compiled prefill and step of one Talker under one scheme.

    Rows of a batch run in step: a row that is done, or starved of text, repeats nothing and counts nothing.
    A starved row holds the whole batch of a live session (`step` then changes nothing for any row). Residual codebooks
    are drawn with the same settings as the first.
    """

    def __init__(
        self, config: TalkerConfig, interleaver: InterleaverConfig, sampling: SamplingConfig, end_of_text: int
    ):
        require(sampling.repetition_penalty == 1.0, sampling, "repetition_penalty", "1 (none) in speech")
        self.config, self.sampling, self.end_of_text = config, sampling, end_of_text
        self.model = Talker(config)
        self.interleaver = make_interleaver(interleaver)
        self.prefill = jax.jit(self._prefill)
        self.step = jax.jit(self._step, donate_argnums=1)
        self.generate = jax.jit(self._generate, static_argnums=5)

    def _prefill(
        self, params: Any, prompt: StreamInput, lengths: Array | None, rate: Array, limit: Array, keys: Array
    ) -> StreamCarry:
        """Reads the Talker prompts of a batch.

        `prompt` `[B, P]` steps, those of a row from its left; `lengths [B]` how many they are, 1 or more, None where
        all are P. `rate [B]` estimated frames per text token, `limit [B]` frames at which speech that does not end
        itself is stopped, `keys [B]` PRNG keys.
        """
        batch, steps = prompt.text.shape
        cache = empty_cache(self.config.decoder, batch, self.config.max_positions, jnp.dtype(self.config.dtype))
        positions = jnp.broadcast_to(jnp.arange(steps), (batch, steps))
        mask = None if lengths is None else (positions < lengths[:, None]).astype(jnp.float32)
        logits, hidden, cache, _ = self.model.apply({"params": params}, prompt, positions, mask, cache=cache)
        if lengths is None:
            lengths, logits, hidden = jnp.full(batch, steps), logits[:, -1], hidden[:, -1]
        else:
            last = (lengths - 1)[:, None, None]
            logits, hidden = (jnp.take_along_axis(x, last, axis=1)[:, 0] for x in (logits, hidden))
        zeros, false = jnp.zeros(batch, jnp.int32), jnp.zeros(batch, bool)
        state = StreamState(zeros, zeros, zeros, zeros, false, rate.astype(jnp.float32), jnp.zeros((batch, 0)))
        return StreamCarry(cache, lengths, state, logits, hidden, false, limit, keys)

    def _step(
        self, params: Any, carry: StreamCarry, text: Array, arrived: Array, durations: Array
    ) -> tuple[StreamCarry, Event]:
        """Decides what comes next in each row and feeds it: `text [B, N]` ids, `arrived [B]` how many have come,
        `durations [text vocabulary]` of a text token, in mean tokens."""
        c = self.config
        lasting = durations[text]
        state = carry.state._replace(expected=carry.state.rate[:, None] * (jnp.cumsum(lasting, axis=1) - lasting))
        allowed = self.interleaver.allow(state)
        keys = jax.vmap(jax.random.fold_in)(carry.keys, state.text + state.frames)
        speech = jnp.broadcast_to(allowed.speech[:, None], (*allowed.speech.shape, c.codebook_size))
        permitted = jnp.concatenate([speech, allowed.text[:, None], allowed.end[:, None]], axis=1)
        drawn = sample(
            jnp.where(permitted, carry.logits, -jnp.inf),
            keys,
            **self.sampling.draw,
        )
        is_text, is_end = drawn == text_class(c), drawn == end_class(c)
        is_frame = ~is_text & ~is_end
        rides = is_frame & self.interleaver.rides(state) & ~state.text_ended
        takes_text = is_text | rides
        starved = ~carry.done & takes_text & (state.text >= arrived)
        active = ~carry.done & ~starved
        takes_text, is_frame, is_end = takes_text & active, is_frame & active, is_end & active

        residual_keys = jax.vmap(jax.random.fold_in)(keys, jnp.ones_like(drawn))
        codes = self.model.apply(
            {"params": params},
            carry.hidden,
            jnp.where(is_frame, drawn, 0),
            residual_keys,
            **self.sampling.draw,
            method=Talker.residual_codes,
        )
        codes = jnp.where(is_frame[:, None], codes, 0)
        index = jnp.minimum(state.text, text.shape[1] - 1)
        token = jnp.where(takes_text, jnp.take_along_axis(text, index[:, None], axis=1)[:, 0], -1)
        inputs = StreamInput(token[:, None], codes[:, None], is_frame[:, None].astype(jnp.int32))
        positions = carry.position[:, None]
        # A step that is held is read as padding, which leaves the cache as it was: choosing between two caches would
        # copy both.
        held = jnp.any(starved)
        mask = jnp.broadcast_to(jnp.where(held, 0.0, 1.0), (token.shape[0], 1))
        logits, hidden, cache, _ = self.model.apply({"params": params}, inputs, positions, mask, cache=carry.cache)
        new_state = StreamState(
            text=state.text + takes_text,
            frames=state.frames + is_frame,
            since_text=jnp.where(takes_text, 0, state.since_text + is_frame),
            since_frame=jnp.where(is_frame, 0, state.since_frame + takes_text),
            text_ended=state.text_ended | (token == self.end_of_text),
            rate=state.rate,
            expected=carry.state.expected,
        )
        kind = jnp.select([starved, is_end, is_frame, takes_text], [STARVED, END, FRAME, TEXT], NOTHING)
        done = carry.done | is_end | (new_state.frames >= carry.limit)
        moved = StreamCarry(
            cache, carry.position + 1, new_state, logits[:, 0], hidden[:, 0], done, carry.limit, carry.keys
        )
        # The cache of a held step is the old one: its mask left it so.
        kept = jax.tree.map(lambda old, new: jnp.where(held, old, new), carry[1:], moved[1:])
        carry = StreamCarry(cache, *kept)
        kind = jnp.where(held & ~starved, NOTHING, kind)
        return carry, Event(kind.astype(jnp.int32), codes, rides & active)

    def _generate(
        self, params: Any, carry: StreamCarry, text: Array, lengths: Array, durations: Array, max_steps: int
    ) -> Event:
        """All steps until every row has ended or `max_steps`: `Event` with `[steps, B, ...]` arrays."""
        batch = text.shape[0]
        events = Event(
            jnp.zeros((max_steps, batch), jnp.int32),
            jnp.zeros((max_steps, batch, self.config.num_codebooks), jnp.int32),
            jnp.zeros((max_steps, batch), bool),
        )

        def going(loop: tuple[Array, StreamCarry, Event]) -> Array:
            return (loop[0] < max_steps) & ~jnp.all(loop[1].done)

        def body(loop: tuple[Array, StreamCarry, Event]) -> tuple[Array, StreamCarry, Event]:
            index, carry, events = loop
            carry, event = self._step(params, carry, text, lengths, durations)
            events = jax.tree.map(lambda all_steps, one: all_steps.at[index].set(one), events, event)
            return index + 1, carry, events

        return jax.lax.while_loop(going, body, (jnp.zeros((), jnp.int32), carry, events))[2]


@functools.lru_cache(maxsize=32)
def streamer(
    config: TalkerConfig, interleaver: InterleaverConfig, sampling: SamplingConfig, end_of_text: int
) -> TalkerStreamer:
    """One `TalkerStreamer` a setting, so that it is compiled once."""
    return TalkerStreamer(config, interleaver, sampling, end_of_text)
