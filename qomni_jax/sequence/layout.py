"""How a conversation with media of given sizes is laid out: brackets, timestamps and places for features."""

from collections.abc import Sequence
import itertools

import numpy as np

from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.sequence.chat import Audio, Image, Media, Turn, Video, media_of, render
from qomni_jax.sequence.elements import Element, Item, Kind, Mark, Slots, Words
from qomni_jax.sequence.interleave import Patch, merge
from qomni_jax.sequence.media_sizes import AudioSize, ImageSize, MediaSize, VideoSize
from qomni_jax.sequence.special_tokens import AUDIO_END, AUDIO_START, VISION_END, VISION_START
from qomni_jax.sequence.timestamps import audio_timestamps, format_timestamp, temporal_id

_SIZE_OF = {Audio: AudioSize, Image: ImageSize, Video: VideoSize}


def lay_out(
    conversation: Sequence[Turn],
    sizes: Sequence[MediaSize],
    config: SequenceConfig,
    *,
    rng: np.random.Generator | None = None,
    reply: bool = False,
) -> list[Element]:
    """The elements of a conversation whose media items have `sizes`, in order.

    `rng` draws the intervals of audio timestamps in training; without it they are regular. `reply` adds the head of an
    assistant's turn. Raises ValueError where sizes do not match the media, or a grid is not whole in tokens.
    """
    media = media_of(conversation)
    if len(sizes) != len(media):
        raise ValueError(
            f"{len(sizes)} sizes of media: accepted is {len(media)}, one for each item of the conversation"
        )
    for number, (item, size) in enumerate(zip(media, sizes, strict=True)):
        _check(number, item, size)
    remaining = iter(sizes)
    elements: list[Element] = []
    for element in render(conversation, reply=reply):
        if isinstance(element, (Words, Mark)):
            elements.append(element)
        else:
            elements += lay_out_media(next(remaining), config, rng)
    return elements


def lay_out_media(size: MediaSize, config: SequenceConfig, rng: np.random.Generator | None = None) -> list[Element]:
    """The elements of one media item; arguments and errors as those of `lay_out`."""
    if isinstance(size, AudioSize):
        return _lay_out_audio(size, config, rng)
    if isinstance(size, ImageSize):
        image = _vision_slots(Kind.IMAGE, size.grid, config)
        return [Mark(VISION_START), Item((image,)), Mark(VISION_END)]
    return _lay_out_video(size, config)


def _check(number: int, item: Media, size: MediaSize) -> None:
    expected = _SIZE_OF[type(item)]
    if not isinstance(size, expected):
        raise ValueError(f"size of media item {number} = {size!r}: accepted is {expected.__name__} for {item!r}")
    if isinstance(item, Video) and isinstance(size, VideoSize) and item.sound != (size.audio_tokens is not None):
        accepted = "a number, for a video with sound" if item.sound else "None, for a video without sound"
        raise ValueError(f"size of media item {number}: audio_tokens = {size.audio_tokens!r}: accepted is {accepted}")


def _vision_slots(kind: Kind, grid: tuple[int, int, int], config: SequenceConfig) -> Slots:
    """One image or temporal patch, at its item's start."""
    merge_size = config.spatial_merge
    if grid[1] % merge_size or grid[2] % merge_size:
        raise ValueError(f"grid {grid}: accepted is a height and a width that {merge_size} (spatial_merge) divides")
    height, width = grid[1] // merge_size, grid[2] // merge_size
    return Slots(kind, height * width, 0, height, width)


def _lay_out_audio(size: AudioSize, config: SequenceConfig, rng: np.random.Generator | None) -> list[Element]:
    stamped = audio_timestamps(size.tokens, config, rng) if config.writes_timestamps else []
    inside: list[Words | Mark | Slots] = []
    for start, end in itertools.pairwise([0, *stamped, size.tokens]):
        if start:
            inside.append(Words(format_timestamp(start / config.audio_tokens_per_second), at=start))
        inside.append(Slots(Kind.AUDIO, end - start, start))
    return [Mark(AUDIO_START), Item(tuple(inside)), Mark(AUDIO_END)]


def _lay_out_video(size: VideoSize, config: SequenceConfig) -> list[Element]:
    patch = _vision_slots(Kind.VIDEO, size.grid, config)
    ats = [temporal_id(time, config) for time in size.patch_times]
    opening, closing = [VISION_START], [VISION_END]
    if size.audio_tokens is None:
        pieces = [patch._replace(at=at) for at in ats]
    else:
        opening, closing = [VISION_START, AUDIO_START], [AUDIO_END, VISION_END]
        pieces = [
            patch._replace(at=piece.at) if isinstance(piece, Patch) else Slots(Kind.AUDIO, piece.size, piece.first)
            for piece in merge(size.audio_tokens, ats)
        ]
    head: list[Element] = [Mark(token) for token in opening]
    tail: list[Element] = [Mark(token) for token in closing]
    if not config.writes_timestamps:
        return [*head, Item(tuple(pieces)), *tail]

    # Each temporal patch, with the sound until the next one, has a timestamp and brackets of its own. Sound before the
    # first patch goes with it. Between two patches brackets close at the time of what they close.
    inside: list[Words | Mark | Slots] = []
    patches = 0
    for piece in pieces:
        if piece.kind is Kind.VIDEO:
            if patches:
                last = inside[-1]
                end = last.at + last.size - 1 if isinstance(last, Slots) and last.kind is Kind.AUDIO else last.at
                inside += [Mark(token, at=end) for token in closing]
                inside.append(Words(format_timestamp(size.patch_times[patches]), at=piece.at))
                inside += [Mark(token, at=piece.at) for token in opening]
            patches += 1
        inside.append(piece)
    return [Words(format_timestamp(size.patch_times[0])), *head, Item(tuple(inside)), *tail]
