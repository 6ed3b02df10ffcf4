"""Frames of codes from Qwen3-Omni's Talker: prefill in chunks, then one compiled step a frame, code predictor included.

A step reads the frame before and one token of text, and gives a whole frame. Frame n needs the answer's first n + 1
tokens and nothing later, so text that is still being written is spoken frame by frame, exactly as if it were all there.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.prompts import Prompt, Rows, check_room, stack_prompts, widen
from qomni_jax.layers.decoder import Cache
from qomni_jax.ops.sampling import penalize_repetition, sample
from qomni_jax.parallel.embedding import lookup
from qomni_jax.talker.qwen3_omni import Qwen3OmniTalker, empty_talker_cache
from qomni_jax.talker.qwen3_omni_prompt import TalkerPrompt


class TalkerPrompts(NamedTuple):
    """Embedded prompts side by side, padded on the right.

    Attributes:
      embeddings: from the first to one behind the last step of a chunk -> `[B, t, D]`.
      rows: lengths, positions and the next position of each.
    """

    embeddings: Callable[[int, int], Array]
    rows: Rows


class SpokenFrames(NamedTuple):
    """`codes [S, Q]` of an answer, and whether its speech ended by itself."""

    codes: np.ndarray
    ended: bool


class TalkerGenerator:
    """Generation with one Talker. A row says the same alone and in any batch.

    Args:
      config, params: of the Talker; on a CPU the unstacked twin is faster (`unstack_qwen3_omni_talker`).
      text_table: `[V, Dt]`, the Thinker's embeddings of its tokens.
      capacity: steps a row may hold, prompt and frames together.
      prefill_chunk: steps of a prompt that one call reads.
      sampling, residual_sampling: of codebook 0 and of the others; greedy by default.
    """

    def __init__(
        self,
        config: Qwen3OmniTalkerConfig,
        params: Any,
        text_table: Array,
        *,
        capacity: int,
        prefill_chunk: int = 2048,
        sampling: SamplingConfig | None = None,
        residual_sampling: SamplingConfig | None = None,
    ):
        self.config, self.params, self.text_table = config, params, text_table
        self.capacity, self.prefill_chunk = capacity, prefill_chunk
        self.settings = _Settings(config, sampling or SamplingConfig(), residual_sampling or SamplingConfig())

    def speak(
        self,
        prompts: Sequence[TalkerPrompt],
        texts: Sequence[Sequence[int]],
        hidden: Array | None,
        max_frames: int,
        *,
        pad: int,
        keys: Sequence[int] | None = None,
    ) -> list[SpokenFrames]:
        """Says each answer, in at most `max_frames` frames.

        `texts`: the tokens of the Thinker that follow a prompt, one a frame, the end of text last; after them comes
        `pad`. `hidden [B, P, Dt]`: what the Thinker made of its own prompts (`Prefilled.kept`), None without media.
        `keys`: a number a row, which its draws are made from (default: its place in the batch).

        Raises ValueError where a prompt and `max_frames` are more than the capacity.
        """
        longest = max(map(len, texts)) + 1
        padded = np.stack([np.pad(text, (0, longest - len(text)), constant_values=pad) for text in texts])
        text = self.embed_text(padded)
        return self.speak_embedded(self.stack(prompts, hidden), text, max_frames, keys)

    def speak_embedded(
        self, prompts: TalkerPrompts, text: Array, max_frames: int, keys: Sequence[int] | None = None
    ) -> list[SpokenFrames]:
        """The same of embedded prompts and text `[B, N, D]`, whose last token is repeated as long as speech goes on."""
        check_room([range(length) for length in prompts.rows.lengths.tolist()], max_frames, self.capacity)
        state = self._begin(prompts, range(len(text)) if keys is None else keys)
        codes, lengths, ended, _ = _generate(self.settings, self.params, state, text, max_frames)
        said = zip(np.asarray(codes), np.asarray(lengths).tolist(), np.asarray(ended).tolist(), strict=True)
        return [SpokenFrames(row[:length], over) for row, length, over in said]

    def open(self, prompt: TalkerPrompt, hidden: Array | None, max_frames: int, *, key: int = 0) -> "TalkerSession":
        """An answer whose text is still coming; arguments as those of `speak`."""
        check_room([prompt.text], max_frames, self.capacity)
        return TalkerSession(self, self._begin(self.stack([prompt], hidden), [key]), max_frames)

    def stack(self, prompts: Sequence[TalkerPrompt], hidden: Array | None) -> TalkerPrompts:
        """Prompts as rows; `hidden` as in `speak`."""
        rows = stack_prompts([Prompt(p.text, p.positions, p.places) for p in prompts], self.capacity)
        codes = np.full(rows.tokens.shape, -1, np.int32)
        for row, prompt in zip(codes, prompts, strict=True):
            row[: len(prompt.codes)] = prompt.codes
        places = rows.slots
        assert places is not None

        def embeddings(start: int, end: int) -> Array:
            here = (jnp.asarray(x[:, start:end]) for x in (rows.tokens, codes, places))
            return _embed_prompt(self.config, self.params, self.text_table, hidden, *here)

        return TalkerPrompts(embeddings, rows)

    def embed_text(self, tokens: np.ndarray) -> Array:
        """Tokens of the Thinker `[...]` as the Talker reads them, `[..., D]`."""
        return _embed_text(self.config, self.params, self.text_table, jnp.asarray(tokens))

    def _begin(self, prompts: TalkerPrompts, keys: Sequence[int]) -> "_State":
        """Reads prompts and says the first frame."""
        config, rows = self.config, prompts.rows
        batch, longest = rows.tokens.shape
        chunk = min(self.prefill_chunk, longest)
        wide = widen(rows, -longest % chunk)
        steps = wide.tokens.shape[1]
        cache = empty_talker_cache(config, batch, steps - longest + self.capacity)
        dtype = jnp.dtype(config.dtype)
        state = _Prefill(
            cache, jnp.zeros((batch, config.decoder.model_dim), dtype), jnp.zeros((batch, config.vocab_size))
        )
        assert wide.positions is not None
        for start in range(0, steps, chunk):
            x = prompts.embeddings(start, min(start + chunk, longest))
            x = jnp.pad(x, ((0, 0), (0, chunk - x.shape[1]), (0, 0)))
            positions = jnp.asarray(wide.positions[..., start : start + chunk])
            state = _prefill(config, self.params, state, x, positions, jnp.asarray(rows.lengths - start))
        numbers = jnp.asarray([int(key) % 2**32 for key in keys], jnp.uint32)
        return _first(self.settings, self.params, *state, jnp.asarray(rows.shift), numbers)


class TalkerSession:
    """One answer, frame by frame as its text comes. `frame` is the latest, codes `[Q]`, None once speech is over."""

    def __init__(self, generator: TalkerGenerator, state: "_State", max_frames: int):
        self._generator, self._state, self._left = generator, state, max_frames
        self.ended = False
        self.frame = self._taken()

    def step(self, token: int) -> np.ndarray | None:
        """Gives one more token of text (the end of text and `pad` after the last) and returns the next frame."""
        if self.frame is not None and not self._left:
            self.frame = None
        elif self.frame is not None:
            g = self._generator
            text = jnp.asarray([token])
            self._state = _live_step(g.settings, g.params, g.text_table, self._state, text)
            self.frame = self._taken()
        return self.frame

    def _taken(self) -> np.ndarray | None:
        codes = np.asarray(self._state.codes[0])
        self.ended = int(codes[0]) == self._generator.config.tokens.eos
        self._left -= 1
        return None if self.ended else codes


class _Settings(NamedTuple):
    """What a compiled generation is made for."""

    config: Qwen3OmniTalkerConfig
    sampling: SamplingConfig
    residual_sampling: SamplingConfig


class _Prefill(NamedTuple):
    """Prompts, as far as they have been read."""

    cache: Cache
    hidden: Array  # [B, D] of each prompt's last step
    logits: Array  # [B, V] of the first frame


class _State(NamedTuple):
    """Generation after a frame."""

    cache: Cache
    codes: Array  # [B, Q] the frame
    embedded: Array  # [B, D] its embeddings, summed
    said: Array  # [B, V] codes of codebook 0 that were said, or [B, 0] where no penalty asks
    number: Array  # [] frames before it
    shift: Array  # [B] next position less the length of the row
    keys: Array  # [B] numbers that the rows' draws are made from


@functools.partial(jax.jit, static_argnums=0)
def _embed_text(config: Qwen3OmniTalkerConfig, params: Any, table: Array, tokens: Array) -> Array:
    embeddings = lookup(table, tokens)
    return Qwen3OmniTalker(config).apply({"params": params}, embeddings, method=Qwen3OmniTalker.embed_text)


@functools.partial(jax.jit, static_argnums=0)
def _embed_prompt(
    config: Qwen3OmniTalkerConfig, params: Any, table: Array, hidden: Array | None, text: Array, codes: Array, at: Array
) -> Array:
    chosen = None if hidden is None else jnp.take_along_axis(hidden, jnp.maximum(at, 0)[..., None], axis=1)
    args = (lookup(table, text), chosen, at >= 0, codes)
    return Qwen3OmniTalker(config).apply({"params": params}, *args, method=Qwen3OmniTalker.embed_prompt)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _prefill(
    config: Qwen3OmniTalkerConfig, params: Any, state: _Prefill, x: Array, positions: Array, remaining: Array
) -> _Prefill:
    """Reads one chunk `x [B, T, D]` of prompts, of which row b still has `remaining[b]` steps (0 or fewer: none)."""
    steps = x.shape[1]
    mask = (jnp.arange(steps) < remaining[:, None]).astype(jnp.float32)
    last = jnp.clip(remaining - 1, 0, steps - 1)
    out = Qwen3OmniTalker(config).apply({"params": params}, x, positions, mask, state.cache, last)
    ends_here = ((remaining > 0) & (remaining <= steps))[:, None]
    hidden = jnp.take_along_axis(out.hidden, last[:, None, None], axis=1)[:, 0]
    return _Prefill(
        out.cache, jnp.where(ends_here, hidden, state.hidden), jnp.where(ends_here, out.logits[:, 0], state.logits)
    )


def _frame(
    settings: _Settings, params: Any, hidden: Array, logits: Array, said: Array, index: Array, numbers: Array
) -> tuple[Array, Array, Array]:
    """Codes `[B, Q]` of frame `index`, their embeddings' sum, and `said` with the frame."""
    config, sampling = settings.config, settings.sampling
    if sampling.repetition_penalty != 1.0:
        logits = penalize_repetition(logits, said, sampling.repetition_penalty)
    ids = jnp.arange(config.vocab_size)
    logits = jnp.where((ids < config.num_codes) | (ids == config.tokens.eos), logits, -jnp.inf)
    root = jax.random.key(sampling.seed)
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.fold_in(root, number), index))(numbers)
    first = jax.vmap(jax.random.split)(keys)  # codebook 0, the others
    code = sample(logits, first[:, 0], **sampling.draw)
    codes, embedded = Qwen3OmniTalker(config).apply(
        {"params": params}, hidden, code, first[:, 1], settings.residual_sampling, method=Qwen3OmniTalker.frame
    )
    said = said.at[jnp.arange(len(code)), code].set(True) if said.shape[1] else said
    return codes, embedded, said


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _first(
    settings: _Settings, params: Any, cache: Cache, hidden: Array, logits: Array, shift: Array, keys: Array
) -> _State:
    """The first frame, after prompts whose last `hidden [B, D]` states gave `logits [B, V]`."""
    penalized = settings.sampling.repetition_penalty != 1.0
    said = jnp.zeros((len(keys), settings.config.vocab_size if penalized else 0), bool)
    index = jnp.zeros((), jnp.int32)
    codes, embedded, said = _frame(settings, params, hidden, logits, said, index, keys)
    return _State(cache, codes, embedded, said, index, shift, keys)


def _step(settings: _Settings, params: Any, state: _State, text: Array) -> _State:
    """The next frame, after the one in `state` and one token of `text [B, D]`."""
    positions = (state.cache.lengths - state.cache.first + state.shift)[:, None]
    x = (state.embedded + text)[:, None]
    out = Qwen3OmniTalker(settings.config).apply({"params": params}, x, positions, cache=state.cache)
    index = state.number + 1
    frame = _frame(settings, params, out.hidden[:, 0], out.logits[:, 0], state.said, index, state.keys)
    return _State(out.cache, *frame, index, state.shift, state.keys)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def _live_step(settings: _Settings, params: Any, table: Array, state: _State, token: Array) -> _State:
    return _step(settings, params, state, _embed_text(settings.config, params, table, token))


@functools.partial(jax.jit, static_argnums=(0, 4), donate_argnums=2)
def _generate(
    settings: _Settings, params: Any, state: _State, text: Array, max_frames: int
) -> tuple[Array, Array, Array, _State]:
    """Codes `[B, S, Q]`, how many of them are said, whether speech ended by itself, and the state, for its buffers."""
    codes = jnp.zeros((len(text), max_frames, settings.config.num_codebooks), jnp.int32)

    def is_over(state: _State) -> Array:
        return state.codes[:, 0] == settings.config.tokens.eos

    def going(loop: Any) -> Array:
        state, _, _, over = loop
        return (state.number + 1 < max_frames) & ~jnp.all(over)

    def body(loop: Any) -> Any:
        state, codes, lengths, over = loop
        here = jax.lax.dynamic_index_in_dim(text, jnp.minimum(state.number, text.shape[1] - 1), 1, keepdims=False)
        state = _step(settings, params, state, here)
        over = over | is_over(state)
        return state, codes.at[:, state.number].set(state.codes), lengths + ~over, over

    over = is_over(state)
    start = (state, codes.at[:, 0].set(state.codes), (~over).astype(jnp.int32), over)
    state, codes, lengths, over = jax.lax.while_loop(going, body, start)
    return codes, lengths, over, state
