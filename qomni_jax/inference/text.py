"""Text from a language model: prefill in chunks, then one token a step, rows at their own lengths."""

from collections.abc import Iterator, Sequence
import functools
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.prompts import Prompt, Rows, check_room, stack_prompts, widen
from qomni_jax.layers.decoder import Cache, layer_intermediates
from qomni_jax.layers.language_model import LanguageModel, empty_language_model_cache
from qomni_jax.ops.sampling import penalize_repetition, sample
from qomni_jax.thinker.model import MediaFeatures, place_features


class Prefilled(NamedTuple):
    """A batch whose prompts have been read."""

    cache: Cache
    logits: Array  # [B, V] of the token after each prompt
    hidden: Array  # [B, D] of each prompt's last token, after the final norm
    kept: Array | None = None  # [B, T, D] of every token, the output of layer `kept_layer`


class Places(NamedTuple):
    """What stands in a chunk of prompts beside its tokens; see `inference.prompts.Rows`."""

    positions: Array | None = None  # [3, B, T]
    slots: Array | None = None  # [B, T]
    features: MediaFeatures | None = None


NO_PLACES = Places()


class Generated(NamedTuple):
    """`tokens [B, N]`, of which `lengths [B]` are said (a stop token included, where one ended the row)."""

    tokens: Array
    lengths: Array


class TextGenerator:
    """Generation with one model. A row gives the same tokens alone and in any batch.

    Args:
      config, params: of the model; on a CPU the unstacked twin (`layers.language_model.unstack_language_model`) is
        faster, as no step copies weights out of a stack.
      capacity: tokens a row may hold, prompt and answer together.
      stop_tokens: each ends its row.
      prefill_chunk: prompt tokens of one call; longer prompts take several.
      sampling: how tokens are drawn; greedy by default. The repetition penalty looks at the prompt as well.
      kept_layer: the layer, counted from 1, whose output at every token of the prompts `prefill` keeps; None: none.
    """

    def __init__(
        self,
        config: LanguageModelConfig,
        params: Any,
        *,
        capacity: int,
        stop_tokens: Sequence[int] = (),
        prefill_chunk: int = 2048,
        sampling: SamplingConfig | None = None,
        kept_layer: int | None = None,
    ):
        if prefill_chunk < 1:
            raise ValueError(f"prefill_chunk {prefill_chunk}: accepted is 1 or more")
        self.config, self.params, self.capacity = config, params, capacity
        self.stop_tokens = tuple(stop_tokens)
        self.prefill_chunk, self.sampling = prefill_chunk, sampling or SamplingConfig()
        self.kept_layer = kept_layer

    def prefill(self, prompts: Sequence[Prompt | Sequence[int]], features: MediaFeatures | None = None) -> Prefilled:
        """Reads prompts of any lengths, each at least one token; `features` is the table that their slots name rows of.

        Raises ValueError where one does not fit.
        """
        return self._read(stack_prompts(prompts, self.capacity), features)

    def _read(self, rows: Rows, features: MediaFeatures | None) -> Prefilled:
        batch, longest = rows.tokens.shape
        chunk = min(self.prefill_chunk, longest)
        rows = widen(rows, -longest % chunk)
        steps = rows.tokens.shape[1]
        cache = empty_language_model_cache(self.config, batch, steps - longest + self.capacity)
        dim, vocab = self.config.decoder.model_dim, self.config.vocab_size
        state = Prefilled(cache, jnp.zeros((batch, vocab)), jnp.zeros((batch, dim), self.config.dtype))
        kept = []
        for start in range(0, steps, chunk):
            tokens, places = rows_between(rows, start, start + chunk, features)
            left = jnp.asarray(rows.lengths - start)
            state = prefill_chunk(self.config, self.params, state, tokens, left, places, kept_layer=self.kept_layer)
            if state.kept is not None:
                kept.append(state.kept)
                state = state._replace(kept=None)
        return state._replace(kept=jnp.concatenate(kept, axis=1)[:, :longest]) if kept else state

    def generate(
        self,
        prompts: Sequence[Prompt | Sequence[int]],
        max_new_tokens: int,
        keys: Sequence[int] | None = None,
        features: MediaFeatures | None = None,
        prefilled: Prefilled | None = None,
    ) -> list[list[int]]:
        """The answer to each prompt, at most `max_new_tokens` tokens; prompts and `features` as in `prefill`.

        `keys`: a number a row, which the row's draws are made from (default: its place in the batch). `prefilled`: what
        `prefill` gave for the same prompts, if they have been read already; its cache is used up.
        """
        settings, cache, start = self._start(prompts, max_new_tokens, keys, features, prefilled)
        said, _ = _generate(settings, self.params, cache, start)
        return as_lists(said)

    def stream(
        self,
        prompt: Prompt | Sequence[int],
        max_new_tokens: int,
        key: int = 0,
        features: MediaFeatures | None = None,
        prefilled: Prefilled | None = None,
    ) -> Iterator[int]:
        """The tokens that `generate` gives for this prompt and key, one by one as they are drawn."""
        settings, cache, start = self._start([prompt], max_new_tokens, [key], features, prefilled)
        # The number of tokens is the caller's affair: one compiled step serves all.
        settings = settings._replace(max_new_tokens=0, stop_tokens=())
        loop = _begin_jit(settings, cache, start)
        for index in range(max_new_tokens):
            token = int(loop.token[0])
            yield token
            if token in self.stop_tokens or index + 1 == max_new_tokens:
                return
            loop = _next_jit(settings, self.params, start, loop)

    def _start(
        self,
        prompts: Sequence[Prompt | Sequence[int]],
        max_new_tokens: int,
        keys: Sequence[int] | None,
        features: MediaFeatures | None,
        prefilled: Prefilled | None,
    ) -> tuple["_Settings", Cache, "_Start"]:
        check_room(prompts, max_new_tokens, self.capacity)
        keys = range(len(prompts)) if keys is None else keys
        if len(keys) != len(prompts):
            raise ValueError(f"{len(keys)} keys for {len(prompts)} prompts: accepted is one each")
        rows = stack_prompts(prompts, self.capacity)
        state = self._read(rows, features) if prefilled is None else prefilled
        settings = _Settings(self.config, self.sampling, max_new_tokens, self.stop_tokens)
        numbers = jnp.asarray([int(key) % 2**32 for key in keys], jnp.uint32)
        start = _Start(state.logits, jnp.asarray(rows.shift), numbers, self._present(rows))
        return settings, state.cache, start

    def _present(self, rows: Rows) -> Array:
        """`[B, V]`: which tokens stand in each prompt; without a penalty, which nobody asks, `[B, 0]`."""
        if self.sampling.repetition_penalty == 1.0:
            return jnp.zeros((len(rows.tokens), 0), bool)
        present = np.zeros((len(rows.tokens), self.config.vocab_size), bool)
        for row, tokens, length in zip(present, rows.tokens, rows.lengths, strict=True):
            row[tokens[:length]] = True
        return jnp.asarray(present)


def rows_between(rows: Rows, start: int, end: int, features: MediaFeatures | None) -> tuple[Array, Places]:
    """Tokens `start..end` of the rows, and what stands beside them."""
    tokens, positions, slots = (
        None if x is None else jnp.asarray(x[..., start:end]) for x in (rows.tokens, rows.positions, rows.slots)
    )
    assert tokens is not None
    return tokens, Places(positions, slots, None if slots is None else features)


def placed(model: LanguageModel, variables: Any, tokens: Array, places: Places) -> tuple[Array, Array | None]:
    """Embeddings `[B, T, D]` of tokens with media in their places, and what DeepStack adds to them."""
    embeddings = model.apply(variables, tokens, method=LanguageModel.embed)
    if places.slots is None or places.features is None:
        return embeddings, None
    return place_features(embeddings, places.slots, places.features)


def as_lists(said: Generated) -> list[list[int]]:
    """What each row said, as lists."""
    tokens, lengths = np.asarray(said.tokens), np.asarray(said.lengths)
    return [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]


def is_stop(tokens: Array, stop_tokens: tuple[int, ...]) -> Array:
    """Where `tokens` are stop tokens."""
    return jnp.isin(tokens, jnp.asarray(stop_tokens, jnp.int32)) if stop_tokens else jnp.zeros(tokens.shape, bool)


@functools.partial(jax.jit, static_argnums=0, static_argnames="kept_layer", donate_argnums=2)
def prefill_chunk(
    config: LanguageModelConfig,
    params: Any,
    state: Prefilled,
    tokens: Array,
    remaining: Array,
    places: Places = NO_PLACES,
    *,
    kept_layer: int | None = None,
) -> Prefilled:
    """Reads one chunk of `tokens [B, T]`, of which row b still has `remaining[b]` (0 or fewer: it is over).

    `kept` of what is returned is the chunk's alone.
    """
    model, variables = LanguageModel(config), {"params": params}
    steps = tokens.shape[1]
    embeddings, deepstack = placed(model, variables, tokens, places)
    mask = (jnp.arange(steps) < remaining[:, None]).astype(jnp.float32)
    last = jnp.clip(remaining - 1, 0, steps - 1)
    out, sowed = model.apply(
        variables,
        tokens,
        places.positions,
        mask,
        state.cache,
        embeddings=embeddings,
        features=deepstack,
        logits_at=last,
        mutable=[] if kept_layer is None else ["intermediates"],
    )
    kept = None
    if kept_layer is not None:
        layers = layer_intermediates(config.decoder, sowed["intermediates"]["decoder"])
        kept = layers[kept_layer - 1]["hidden"]
    ends_here = ((remaining > 0) & (remaining <= steps))[:, None]
    hidden = jnp.take_along_axis(out.hidden, last[:, None, None], axis=1)[:, 0]
    return Prefilled(
        out.cache,
        jnp.where(ends_here, out.logits[:, 0], state.logits),
        jnp.where(ends_here, hidden, state.hidden),
        kept,
    )


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def decode_step(config: LanguageModelConfig, params: Any, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
    """Reads `tokens [B]` and says the most likely next ones, `[B]`; the cache passed in is written in place."""
    out = LanguageModel(config).apply({"params": params}, tokens[:, None], cache=cache)
    return jnp.argmax(out.logits[:, 0], axis=-1).astype(jnp.int32), out.cache


class _Settings(NamedTuple):
    """What a compiled generation is made for."""

    config: LanguageModelConfig
    sampling: SamplingConfig
    max_new_tokens: int
    stop_tokens: tuple[int, ...]


class _Start(NamedTuple):
    """Where a generation begins."""

    logits: Array  # [B, V] of the first token
    shift: Array  # [B] next position less the length of the row
    keys: Array  # [B] numbers that the rows' draws are made from
    present: Array  # [B, V] tokens that stand in the row, or [B, 0]


class _Loop(NamedTuple):
    """A generation between two steps."""

    drawn: Array  # [] tokens before `token`
    token: Array  # [B] drawn, not read yet
    present: Array
    cache: Cache


def _draw(settings: _Settings, start: _Start, index: Array, logits: Array, present: Array) -> tuple[Array, Array]:
    """Token number `index` of each row, and `present` with it."""
    sampling = settings.sampling
    if sampling.repetition_penalty != 1.0:
        logits = penalize_repetition(logits, present, sampling.repetition_penalty)
    root = jax.random.key(sampling.seed)
    keys = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(root, key), index))(start.keys)
    token = sample(logits, keys, **sampling.draw)
    return token, present.at[jnp.arange(len(token)), token].set(True) if present.shape[1] else present


def _begin(settings: _Settings, cache: Cache, start: _Start) -> _Loop:
    index = jnp.zeros((), jnp.int32)
    return _Loop(index, *_draw(settings, start, index, start.logits, start.present), cache)


def _next(settings: _Settings, params: Any, start: _Start, loop: _Loop) -> _Loop:
    positions = (loop.cache.lengths - loop.cache.first + start.shift)[:, None]
    model = LanguageModel(settings.config)
    out = model.apply({"params": params}, loop.token[:, None], positions, cache=loop.cache)
    index = loop.drawn + 1
    return _Loop(index, *_draw(settings, start, index, out.logits[:, 0], loop.present), out.cache)


_begin_jit = jax.jit(_begin, static_argnums=0, donate_argnums=1)
_next_jit = jax.jit(_next, static_argnums=0, donate_argnums=3)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _generate(settings: _Settings, params: Any, cache: Cache, start: _Start) -> tuple[Generated, Cache]:
    """What is said, and the cache after it: returned so that the one passed in is written in place."""
    batch = start.logits.shape[0]

    def going(state: Any) -> Array:
        loop, _, _, done = state
        return (loop.drawn < settings.max_new_tokens) & ~jnp.all(done)

    def body(state: Any) -> Any:
        loop, tokens, lengths, done = state
        tokens = jax.lax.dynamic_update_slice_in_dim(tokens, loop.token[:, None], loop.drawn, axis=1)
        lengths = lengths + ~done
        done = done | is_stop(loop.token, settings.stop_tokens)
        return _next(settings, params, start, loop), tokens, lengths, done

    nothing = (
        jnp.zeros((batch, settings.max_new_tokens), jnp.int32),
        jnp.zeros(batch, jnp.int32),
        jnp.zeros(batch, bool),
    )
    loop, tokens, lengths, _ = jax.lax.while_loop(going, body, (_begin(settings, cache, start), *nothing))
    return Generated(tokens, lengths), loop.cache
