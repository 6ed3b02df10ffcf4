"""Speculative decoding with the model's own multi-token-prediction head: fewer steps, the same tokens.

A round has three parts. The head guesses `drafts` tokens, one after another, each from the hidden state and the token
before it. The model reads the pending token and all guesses in one call, and says what it would have said after each.
Guesses are taken as long as they agree; the model's own token after the last of them is taken too and is pending in
the next round. Convolution and recurrent states go back to the last token that was taken (`layers.decoder.rollback`),
key-value slots after it are written over.
"""

from collections.abc import Sequence
import functools
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.inference.prompts import Prompt, Rows, check_room, stack_prompts, widen
from qomni_jax.inference.text import (
    Generated,
    Places,
    Prefilled,
    TextGenerator,
    as_lists,
    is_stop,
    placed,
    rows_between,
)
from qomni_jax.layers.decoder import Cache, rollback
from qomni_jax.layers.language_model import LanguageModel, empty_language_model_cache, empty_language_model_mtp_cache
from qomni_jax.thinker.model import MediaFeatures


class Speculation(NamedTuple):
    """How well it went: model calls of all rows, and guesses that were taken, summed over rows that were not done."""

    rounds: int
    rows: int  # rows that were not done, summed over rounds
    accepted: int

    @property
    def tokens_per_call(self) -> float:
        """Tokens that one model call gives a row, 1 without speculation."""
        return 1.0 + self.accepted / max(self.rows, 1)


class SpeculativeGenerator:
    """Greedy generation that guesses ahead; arguments as `inference.text.TextGenerator`, and `drafts` a round.

    Raises ValueError for a model without the head, or fewer than one draft.
    """

    def __init__(
        self,
        config: LanguageModelConfig,
        params: Any,
        *,
        capacity: int,
        stop_tokens: Sequence[int] = (),
        prefill_chunk: int = 2048,
        drafts: int = 1,
    ):
        if not config.num_mtp_layers:
            raise ValueError("speculative decoding with num_mtp_layers = 0: accepted is a model with the head")
        if drafts < 1:
            raise ValueError(f"drafts {drafts}: accepted is 1 or more")
        # A round may write `drafts` slots beyond the last token that is taken.
        self._text = TextGenerator(
            config, params, capacity=capacity + drafts + 1, stop_tokens=stop_tokens, prefill_chunk=prefill_chunk
        )
        self.config, self.capacity, self.drafts = config, capacity, drafts
        self.last = Speculation(0, 0, 0)

    def generate(
        self,
        prompts: Sequence[Prompt | Sequence[int]],
        max_new_tokens: int,
        features: MediaFeatures | None = None,
    ) -> list[list[int]]:
        """The answers that `TextGenerator.generate` gives. `last` tells how the guesses went."""
        check_room(prompts, max_new_tokens, self.capacity)
        rows = stack_prompts(prompts, self.capacity)
        state, mtp_cache = self._read(rows, features)
        settings = (self.config, max_new_tokens, self.drafts, self._text.stop_tokens)
        caches, shift = (state.cache, mtp_cache), jnp.asarray(rows.shift)
        said, counts, _ = _generate(*settings, self._text.params, caches, state.logits, state.hidden, shift)
        self.last = Speculation(*(int(count) for count in counts))
        return as_lists(said)

    def _read(self, rows: Rows, features: MediaFeatures | None) -> tuple[Prefilled, Cache]:
        """Prompts into both caches: the head's holds every token of the prompt with the hidden state before it."""
        batch, longest = rows.tokens.shape
        chunk = min(self._text.prefill_chunk, longest)
        rows = widen(rows, -longest % chunk + 1)
        steps = rows.tokens.shape[1]
        capacity = steps - longest + self._text.capacity
        cache = empty_language_model_cache(self.config, batch, capacity)
        dim, vocab = self.config.decoder.model_dim, self.config.vocab_size
        state = Prefilled(cache, jnp.zeros((batch, vocab)), jnp.zeros((batch, dim), self.config.dtype))
        mtp_cache = empty_language_model_mtp_cache(self.config, batch, capacity)
        for start in range(0, steps - 1, chunk):
            tokens, places = rows_between(rows, start, start + chunk + 1, features)
            left = jnp.asarray(rows.lengths - start)
            state, mtp_cache = _prefill_chunk(self.config, self._text.params, state, mtp_cache, tokens, left, places)
        return state, mtp_cache


class _Loop(NamedTuple):
    tokens: Array  # [B, N + drafts + 1] said so far
    lengths: Array  # [B] how many of them count
    done: Array  # [B]
    cache: Cache
    mtp_cache: Cache
    pairs: Array  # [B, K + 1] tokens that the head has not read, the pending one last
    hidden: Array  # [B, K + 1, D] the model's hidden state before each of them
    fresh: Array  # [B] how many of `pairs` there are
    rounds: Array
    rows: Array
    accepted: Array


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(2, 3))
def _prefill_chunk(
    config: LanguageModelConfig,
    params: Any,
    state: Prefilled,
    mtp_cache: Cache,
    tokens: Array,
    left: Array,
    places: Places,
) -> tuple[Prefilled, Cache]:
    """Reads `tokens[:, :-1]`, of which row b still has `left[b]`; the last column is the first token of the next."""
    model, variables = LanguageModel(config), {"params": params}
    steps = tokens.shape[1] - 1
    time = jnp.arange(steps)
    mask = (time < left[:, None]).astype(jnp.float32)
    last = jnp.clip(left - 1, 0, steps - 1)
    embeddings, deepstack = placed(model, variables, tokens, places)
    here, after = (slice(None, -1), slice(1, None))
    positions = [None if places.positions is None else places.positions[..., part] for part in (here, after)]
    out = model.apply(
        variables,
        tokens[:, here],
        positions[0],
        mask,
        state.cache,
        embeddings=embeddings[:, here],
        features=None if deepstack is None else deepstack[:, :, here],
        logits_at=last,
    )
    followed = (time + 1 < left[:, None]).astype(jnp.float32)
    _, mtp_cache, _ = model.apply(
        variables,
        tokens[:, after],
        out.hidden,
        positions[1],
        followed,
        mtp_cache,
        embeddings=embeddings[:, after],
        method=LanguageModel.mtp_hidden,
    )
    ends_here = ((left > 0) & (left <= steps))[:, None]
    hidden = jnp.take_along_axis(out.hidden, last[:, None, None], axis=1)[:, 0]
    state = Prefilled(
        out.cache,
        jnp.where(ends_here, out.logits[:, 0], state.logits),
        jnp.where(ends_here, hidden, state.hidden),
    )
    return state, mtp_cache


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=5)
def _generate(
    config: LanguageModelConfig,
    max_new_tokens: int,
    drafts: int,
    stop_tokens: tuple[int, ...],
    params: Any,
    caches: tuple[Cache, Cache],
    logits: Array,
    hidden: Array,
    shift: Array,
) -> tuple[Generated, tuple[Array, Array, Array], tuple[Cache, Cache]]:
    """What is said, the counts of `Speculation`, and the caches, returned so that those passed in are reused."""
    model, variables = LanguageModel(config), {"params": params}
    batch, dim = hidden.shape
    width = drafts + 1
    rows = jnp.arange(batch)

    def places_of(cache: Cache, steps: int, ahead: int) -> Array:
        """Positions `[B, steps]` of the next tokens of a cache, those of the head being one `ahead`."""
        return (cache.lengths - cache.first + shift + ahead)[:, None] + jnp.arange(steps)

    def draft(loop: _Loop) -> tuple[Array, Cache]:
        """Guesses `[B, K]`, and the head's cache with what is certain in it."""
        mask = (jnp.arange(width) < loop.fresh[:, None]).astype(jnp.float32)
        hidden, sure, _ = model.apply(
            variables,
            loop.pairs,
            loop.hidden,
            places_of(loop.mtp_cache, width, 1),
            mask,
            loop.mtp_cache,
            method=LanguageModel.mtp_hidden,
        )
        last = hidden[rows, loop.fresh - 1]
        guesses, cache = [_best(_logits(last))], sure
        for _ in range(drafts - 1):
            hidden, cache, _ = model.apply(
                variables,
                guesses[-1][:, None],
                last[:, None],
                places_of(cache, 1, 1),
                None,
                cache,
                method=LanguageModel.mtp_hidden,
            )
            last = hidden[:, 0]
            guesses.append(_best(_logits(last)))
        return jnp.stack(guesses, axis=1), Cache(cache.layers, sure.lengths, sure.first)

    def _logits(hidden: Array) -> Array:
        return model.apply(variables, hidden, method=LanguageModel.logits)

    def going(loop: _Loop) -> Array:
        return ~jnp.all(loop.done)

    def body(loop: _Loop) -> _Loop:
        guesses, mtp_cache = draft(loop)
        pending = loop.pairs[rows, loop.fresh - 1]
        block = jnp.concatenate([pending[:, None], guesses], axis=1)
        out = model.apply(variables, block, places_of(loop.cache, width, 0), cache=loop.cache, every_state=True)
        own = _best(out.logits)  # [B, K + 1], what the model says after each token of the block
        agrees = jnp.cumprod(guesses == own[:, :-1], axis=1)
        taken = jnp.sum(agrees, axis=1).astype(jnp.int32)  # guesses taken

        # The tokens said in this round are the first `taken + 1` of `own`; a stop token among them ends the row there.
        place = jnp.arange(width)
        stops = is_stop(own, stop_tokens) & (place <= taken[:, None])
        until_stop = jnp.where(jnp.any(stops, axis=1), jnp.argmax(stops, axis=1) + 1, width)
        room = max_new_tokens - loop.lengths
        count = jnp.where(loop.done, 0, jnp.minimum(jnp.minimum(taken + 1, until_stop), room))
        write = jax.vmap(lambda row, new, at: jax.lax.dynamic_update_slice_in_dim(row, new, at, axis=0))
        tokens = write(loop.tokens, own, loop.lengths)
        lengths = loop.lengths + count
        done = loop.done | jnp.any(stops, axis=1) | (lengths >= max_new_tokens)

        kept = jnp.where(loop.done, 0, taken + 1)
        cache = rollback(config.decoder, loop.cache, out.cache, kept)
        return _Loop(
            tokens=tokens,
            lengths=lengths,
            done=done,
            cache=cache,
            mtp_cache=_held(loop, mtp_cache),
            pairs=jnp.where(loop.done[:, None], loop.pairs, own),
            hidden=jnp.where(loop.done[:, None, None], loop.hidden, out.hidden),
            fresh=jnp.where(loop.done, loop.fresh, taken + 1),
            rounds=loop.rounds + 1,
            rows=loop.rows + jnp.sum(~loop.done),
            accepted=loop.accepted + jnp.sum(jnp.where(loop.done, 0, taken)),
        )

    first = _best(logits)
    zero = jnp.zeros((), jnp.int32)
    start = _Loop(
        tokens=jnp.zeros((batch, max_new_tokens + width), jnp.int32).at[:, 0].set(first),
        lengths=jnp.ones(batch, jnp.int32),
        done=is_stop(first, stop_tokens) | (max_new_tokens <= 1),
        cache=caches[0],
        mtp_cache=caches[1],
        pairs=jnp.zeros((batch, width), jnp.int32).at[:, 0].set(first),
        hidden=jnp.zeros((batch, width, dim), hidden.dtype).at[:, 0].set(hidden),
        fresh=jnp.ones(batch, jnp.int32),
        rounds=zero,
        rows=zero,
        accepted=zero,
    )
    end = jax.lax.while_loop(going, body, start)
    said = Generated(end.tokens[:, :max_new_tokens], end.lengths)
    return said, (end.rounds, end.rows, end.accepted), (end.cache, end.mtp_cache)


def _held(loop: _Loop, cache: Cache) -> Cache:
    """The head's new cache, with the lengths of rows that are done as they were."""
    return Cache(cache.layers, jnp.where(loop.done, loop.mtp_cache.lengths, cache.lengths), cache.first)


def _best(logits: Array) -> Array:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
