"""Several sequences in rows of one length, each whole and in a segment of its own, and back."""

from collections.abc import Sequence
import itertools
from typing import NamedTuple

import numpy as np

from qomni_jax.sequence.assembly import OmniSequence
from qomni_jax.sequence.elements import Kind


class Packed(NamedTuple):
    """`rows`: an `OmniSequence` of arrays `[R, length]`; `members`: for each row the numbers of its items, in order.

    A row reads the encoder outputs of its members one after the other, in this order. What is left of a row has the
    kind PADDING and a segment of its own.
    """

    rows: OmniSequence
    members: list[list[int]]


def first_fit(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Numbers of items of `sizes` tokens, row by row: each in the first row of `length` that has room for it.

    Raises ValueError for an item that is longer than a row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for item, size in enumerate(sizes):
        if size > length:
            raise ValueError(f"item {item} has {size} tokens: accepted is {length}, the length of a row, or fewer")
        row = next((r for r, free in enumerate(room) if free >= size), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(length)
        rows[row].append(item)
        room[row] -= size
    return rows


def pack(items: Sequence[OmniSequence], length: int, pad_token: int) -> Packed:
    """Items, at least one, in as few rows of `length` as first-fit finds. Raises ValueError as `first_fit`."""
    members = first_fit([item.num_tokens for item in items], length)
    rows = [_row([items[number] for number in row], length, pad_token) for row in members]
    return Packed(
        OmniSequence(
            tokens=np.stack([row.tokens for row in rows]),
            kinds=np.stack([row.kinds for row in rows]),
            feature_index=np.stack([row.feature_index for row in rows]),
            positions=np.stack([row.positions for row in rows], axis=1),
            segment_ids=np.stack([row.segment_ids for row in rows]),
            loss_weights=np.stack([row.loss_weights for row in rows]),
        ),
        members,
    )


def unpack(rows: OmniSequence) -> list[list[OmniSequence]]:
    """The items of packed rows `[R, length]`, row by row, as they were before."""
    return [_items_of_row(rows, row) for row in range(len(rows.tokens))]


def _row(items: Sequence[OmniSequence], length: int, pad_token: int) -> OmniSequence:
    left = length - sum(item.num_tokens for item in items)
    seen = np.zeros(len(Kind), np.int32)  # features of each kind; text and padding stay at none
    indices = []
    for item in items:
        indices.append(np.where(item.feature_index >= 0, item.feature_index + seen[item.kinds], -1))
        seen += _features(item)
    segments = np.repeat(np.arange(len(items) + 1), [*(item.num_tokens for item in items), left])
    return OmniSequence(
        tokens=_padded([item.tokens for item in items], left, pad_token),
        kinds=_padded([item.kinds for item in items], left, Kind.PADDING),
        feature_index=_padded(indices, left, -1).astype(np.int32),
        positions=_padded([item.positions for item in items], left, 0),
        segment_ids=segments.astype(np.int32),
        loss_weights=_padded([item.loss_weights for item in items], left, 0),
    )


def _items_of_row(rows: OmniSequence, row: int) -> list[OmniSequence]:
    used = int(np.sum(rows.kinds[row] != Kind.PADDING))
    edges = [0, *np.flatnonzero(np.diff(rows.segment_ids[row, :used])) + 1, used]
    seen = np.zeros(len(Kind), np.int32)
    items = []
    for start, end in itertools.pairwise(edges):
        here = slice(start, end)
        kinds, index = rows.kinds[row, here], rows.feature_index[row, here]
        item = OmniSequence(
            tokens=rows.tokens[row, here],
            kinds=kinds,
            feature_index=np.where(index >= 0, index - seen[kinds], -1),
            positions=rows.positions[:, row, here],
            segment_ids=np.zeros(end - start, np.int32),
            loss_weights=rows.loss_weights[row, here],
        )
        items.append(item)
        seen += _features(item)
    return items


def _features(item: OmniSequence) -> np.ndarray:
    """How many features of each kind an item takes, by kind."""
    return np.bincount(item.kinds[item.feature_index >= 0], minlength=len(Kind)).astype(np.int32)


def _padded(parts: Sequence[np.ndarray], left: int, value: int) -> np.ndarray:
    """Parts joined along their last axis and `left` times `value`, in the type of the parts."""
    joined = np.concatenate(parts, axis=-1)
    return np.pad(joined, [(0, 0)] * (joined.ndim - 1) + [(0, left)], constant_values=value)
