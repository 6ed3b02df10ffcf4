"""Three rules that give each token its position ids: rows of time, height and width.

A rule is fed a sequence from its start, run by run, in pieces of any size; text gets three equal ids, outside media one
more than the largest id before it. What a media item holds stands between `begin_item` and `end_item`.
"""

from typing import Protocol

import numpy as np

from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.sequence.elements import Kind, Slots


class PositionRule(Protocol):
    """One rule, at one point of a sequence."""

    def begin_item(self) -> None:
        """A media item begins; its times count from here."""
        ...

    def end_item(self) -> None:
        """The media item ends."""
        ...

    def text(self, count: int, at: float | None = None) -> np.ndarray:
        """Ids `[3, count]` of text; inside an item, `at` is the temporal id, from its start, to which it belongs."""
        ...

    def slots(self, slots: Slots) -> np.ndarray:
        """Ids `[3, slots.size]` of features."""
        ...


def position_rule(config: SequenceConfig) -> PositionRule:
    """The rule of a config, at the start of a sequence."""
    if not config.follows_time:
        return PlainPositions()
    return GridPositions() if config.temporal_ids == "grid" else ContinuousPositions()


def rope_delta(positions: np.ndarray) -> float:
    """What to add to the number of tokens `positions [3, T]` to get the id of the next one."""
    return positions.max().item() + 1 - positions.shape[1]


class PlainPositions:
    """M-RoPE of Qwen3-VL and Qwen3.5, int32: order alone, not time.

    Text and audio take one id a token. An image or temporal patch is at the current id in time, its rows and columns
    count from there, and it takes as many ids as its longer side has tokens.
    """

    def __init__(self) -> None:
        self._next = 0

    def begin_item(self) -> None:
        pass

    def end_item(self) -> None:
        pass

    def text(self, count: int, at: float | None = None) -> np.ndarray:
        self._next += count
        return _line(self._next - count, count, np.int32)

    def slots(self, slots: Slots) -> np.ndarray:
        if slots.kind is Kind.AUDIO:
            return self.text(slots.size)
        start = self._next
        self._next += max(slots.height, slots.width)
        return _plane(start, start, slots, np.int32)


class GridPositions:
    """TM-RoPE of the system, int32: temporal ids are cells of real time (160 ms), anchored where the item begins.

    An audio token and a temporal patch of the same cell share their temporal id; rows and columns of a patch count from
    its own, as those of a still image do. Text inside an item (timestamps, brackets) stops the clock: it takes one id a
    token, and what comes after is that much later. So between two features lie the cells between their times plus the
    text tokens between them, and no id is used both by text and by what comes before it. After an item the next id is
    the largest plus one. The report (Qwen3.5-Omni, section 2.3) gives all but the ids of text inside an item.
    """

    def __init__(self) -> None:
        self._largest = -1  # of all ids
        self._origin = 0  # the id of the item's start, moved on by the text in it
        self._last = -1  # the largest temporal id
        self._after_text = False

    def begin_item(self) -> None:
        self._origin, self._last, self._after_text = self._largest + 1, self._largest, True

    def end_item(self) -> None:
        self._last = self._largest

    def text(self, count: int, at: float | None = None) -> np.ndarray:
        start = self._last + 1
        if at is not None:
            start = max(start, self._origin + int(at))
            self._origin += count
        self._last, self._after_text = start + count - 1, True
        self._largest = max(self._largest, self._last)
        return _line(start, count, np.int32)

    def slots(self, slots: Slots) -> np.ndarray:
        start = self._origin + int(slots.at)
        least = self._last + 1 if self._after_text else self._last
        if start < least:  # text of an earlier patch in the same cell stands there: the clock stops for it too
            self._origin += least - start
            start = least
        if slots.kind is Kind.AUDIO:
            ids = _line(start, slots.size, np.int32)
            self._last = start + slots.size - 1
        else:
            ids = _plane(start, start, slots, np.int32)
            self._last = start
        self._largest, self._after_text = max(self._largest, int(ids.max())), False
        return ids


class ContinuousPositions:
    """TMRoPE of Qwen3-Omni, float32: temporal ids follow real time and may be fractions.

    Rows and columns of all patches of a video count from the video's start. After an item the next id is the largest
    of its last piece plus one, as in the ancestor: of what comes after the last change between audio and video.
    """

    def __init__(self) -> None:
        self._next = np.float32(0)
        self._origin = np.float32(0)
        self._last_kind = Kind.TEXT
        self._largest = np.float32(0)  # of the last piece

    def begin_item(self) -> None:
        self._origin, self._last_kind = self._next, Kind.TEXT

    def end_item(self) -> None:
        self._next = self._largest + np.float32(1)

    def text(self, count: int, at: float | None = None) -> np.ndarray:
        start = self._next
        self._next = start + np.float32(count)
        return _line(start, count, np.float32)

    def slots(self, slots: Slots) -> np.ndarray:
        start = self._origin + np.float32(slots.at)
        if slots.kind is Kind.AUDIO:
            ids = _line(start, slots.size, np.float32)
        else:
            ids = _plane(start, self._origin, slots, np.float32)
        goes_on = slots.kind is self._last_kind
        self._largest = max(self._largest, ids.max()) if goes_on else ids.max()
        self._last_kind = slots.kind
        return ids


def _line(start: float | np.float32, count: int, dtype: type) -> np.ndarray:
    return np.broadcast_to(start + np.arange(count, dtype=dtype), (3, count)).astype(dtype)


def _plane(time: float | np.float32, corner: float | np.float32, slots: Slots, dtype: type) -> np.ndarray:
    rows, columns = np.divmod(np.arange(slots.size), slots.width)
    return np.stack([np.full(slots.size, time), corner + rows, corner + columns]).astype(dtype)
