"""What a model is asked: rows of tokens, with media between the text or without."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Prompt(NamedTuple):
    """One row.

    Attributes:
      tokens: `[T]` ids.
      positions: `[3, T]` time, height and width of each; None for text, whose tokens are counted from 0.
      slots: `[T]`, the row of the media's table that stands in the place of a token, -1 for none; None for text.
    """

    tokens: np.ndarray
    positions: np.ndarray | None = None
    slots: np.ndarray | None = None

    @property
    def next_position(self) -> float:
        """Of the first token of the answer, on all three axes."""
        return len(self.tokens) if self.positions is None else float(np.max(self.positions)) + 1


class Rows(NamedTuple):
    """Prompts side by side, padded on the right: `tokens [B, T]`, `lengths [B]`.

    `positions [3, B, T]` and `slots [B, T]` are None where no prompt has them. `shift [B]`: a row's next position less
    its length.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    positions: np.ndarray | None
    slots: np.ndarray | None
    shift: np.ndarray


def stack_prompts(prompts: Sequence[Prompt | Sequence[int]], capacity: int) -> Rows:
    """Prompts as rows. Raises ValueError for none, an empty one, or one longer than `capacity`."""
    given = [p if isinstance(p, Prompt) else Prompt(np.asarray(p, np.int32)) for p in prompts]
    lengths = np.array([len(p.tokens) for p in given], np.int32)
    if not len(lengths) or lengths.min() < 1 or lengths.max() > capacity:
        raise ValueError(f"prompts of {lengths.tolist()} tokens: accepted are 1 to {capacity} (capacity) tokens each")
    longest = int(lengths.max())
    positions = slots = None
    shift = np.zeros(len(given), np.int32)
    if any(p.positions is not None for p in given):
        rows = [np.tile(np.arange(len(p.tokens)), (3, 1)) if p.positions is None else p.positions for p in given]
        whole = all(np.array_equal(row, np.round(row)) for row in rows)
        dtype = np.int32 if whole else np.float32
        positions = np.stack([_padded(row, longest).astype(dtype) for row in rows], axis=1)
        shift = np.array([p.next_position - len(p.tokens) for p in given], dtype)
    if any(p.slots is not None for p in given):
        none = [np.full(len(p.tokens), -1) if p.slots is None else p.slots for p in given]
        slots = np.stack([_padded(row, longest, -1) for row in none]).astype(np.int32)
    tokens = np.stack([_padded(p.tokens, longest) for p in given]).astype(np.int32)
    return Rows(tokens, lengths, positions, slots, shift)


def check_room(prompts: Sequence[Any], new_tokens: int, capacity: int) -> None:
    """Raises ValueError where the longest prompt and `new_tokens` do not fit in the cache."""
    longest = max((len(p.tokens if isinstance(p, Prompt) else p) for p in prompts), default=0)
    if new_tokens < 1 or longest + new_tokens > capacity:
        raise ValueError(
            f"{new_tokens} new tokens after a prompt of {longest}: accepted are 1 or more, together at most "
            f"{capacity} (capacity)"
        )


def widen(rows: Rows, more: int) -> Rows:
    """The same rows with `more` tokens of padding."""
    width = rows.tokens.shape[1] + more
    return rows._replace(
        tokens=_padded(rows.tokens, width),
        positions=None if rows.positions is None else _padded(rows.positions, width),
        slots=None if rows.slots is None else _padded(rows.slots, width, -1),
    )


def _padded(x: np.ndarray, width: int, value: int = 0) -> np.ndarray:
    """`[..., T] -> [..., width]`."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])], constant_values=value)
