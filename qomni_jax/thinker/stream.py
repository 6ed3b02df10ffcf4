"""Media of any length through the encoders, piece by piece: what stays in memory is what the encoders give.

Nothing reaches from one frame of a video to another, nor over the end of a window of a recording. So a few frames or
windows at a time give what all of them give at once, and pieces of one size share one compiled program.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import functools
import itertools
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.audio import AudioEncoderConfig
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.vision import VisionEncoderConfig
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.example import Pictures, Recording, StreamedExample
from qomni_jax.thinker.batch import bucket, fill_slots, table_rows
from qomni_jax.thinker.model import Media, MediaFeatures, Thinker
from qomni_jax.vision.patches import frame_rows

WINDOWS = 8
PATCHES = 4_096


class _Walk(NamedTuple):
    """How a medium goes through its encoder, and where in the table its outputs stand.

    Attributes:
      start: the row of the table of its first output.
      rows, length: of a call: rows of so many frames of sound, or of so many patches.
      width: outputs a row.
      filled: rows that the medium fills; those of the last call after them are padding.
    """

    start: int
    rows: int
    length: int
    width: int
    filled: int

    @property
    def end(self) -> int:
        return self.start + -(-self.filled // self.rows) * self.rows * self.width


def encode_media(
    examples: Sequence[StreamedExample],
    config: ThinkerConfig,
    params: Mapping[str, Any],
    *,
    windows: int = WINDOWS,
    patches: int = PATCHES,
) -> tuple[MediaFeatures | None, list[np.ndarray]]:
    """The encoders' outputs for all examples, None without media, and for each example its slots int32 `[T]`.

    Those of `place_media` and `Thinker.encode`, in another order of rows. `params` are the Thinker's; the decoder's are
    not needed. A call reads at most `windows` windows of a recording (all of it where the encoder has none) and at most
    `patches` patches, or one frame. The table is padded to a `bucket`.

    Raises ValueError where media do not fill the places that their sequence has for them, or give more or less than
    they announce; and what reading them raises.
    """
    pictures = [item for e in examples for item in (*e.images, *e.videos)]
    recordings = [recording for e in examples for recording in e.recordings]
    seen: list[_Walk] = []
    heard: list[_Walk] = []
    end = levels = 0
    if config.vision is not None:
        levels = len(config.vision.deepstack_layers)
        for item in pictures:
            seen.append(_picture_walk(end, item, config.vision, patches))
            end = seen[-1].end
    num_seen = end = bucket(end) if end else 0
    if config.audio is not None:
        for recording in recordings:
            heard.append(_recording_walk(end, recording, config.audio, windows))
            end = heard[-1].end
    slots = _slots(examples, config, seen, heard)
    if not end:
        return None, slots
    dim, dtype = config.language_model.decoder.model_dim, config.language_model.dtype
    features = MediaFeatures(jnp.zeros((bucket(end), dim), dtype), jnp.zeros((levels, num_seen, dim), dtype))
    encoders = {name: tree for name, tree in params.items() if name != "language_model"}
    parts = itertools.chain(
        itertools.chain.from_iterable(map(_picture_pieces, pictures, seen)),
        itertools.chain.from_iterable(map(_recording_pieces, recordings, heard)),
    )
    encoded = None
    for at, media in parts:
        jax.block_until_ready(encoded)  # one piece is read while one is encoded, no more
        encoded = encode_piece(config, encoders, media)
        features = _write(features, encoded, at)
    return features, slots


@functools.partial(jax.jit, static_argnums=0)
def encode_piece(config: ThinkerConfig, params: Mapping[str, Any], media: Media) -> MediaFeatures:
    """The table of one piece of media."""
    return Thinker(config).apply({"params": params}, media, method=Thinker.encode)


@functools.partial(jax.jit, donate_argnums=0)
def _write(features: MediaFeatures, piece: MediaFeatures, at: Array | int) -> MediaFeatures:
    """`features`, written in place, with the outputs of a piece from row `at` of the table on."""
    table = jax.lax.dynamic_update_slice_in_dim(features.table, piece.table, at, axis=0)
    if not piece.deepstack.shape[0]:
        return MediaFeatures(table, features.deepstack)
    deepstack = jax.lax.dynamic_update_slice_in_dim(features.deepstack, piece.deepstack, at, axis=1)
    return MediaFeatures(table, deepstack)


def _picture_walk(start: int, item: Pictures, config: VisionEncoderConfig, patches: int) -> _Walk:
    """A video's frames, which are all of one size, have a program of their own; images share a few (`bucket`)."""
    frames, height, width = item.grid
    tokens = height * width // config.merged_patches
    tokens = bucket(tokens) if frames == 1 else tokens
    length = tokens * config.merged_patches
    return _Walk(start, min(bucket(frames), max(1, patches // length)), length, tokens, frames)


def _recording_walk(start: int, recording: Recording, config: AudioEncoderConfig, windows: int) -> _Walk:
    """A row is a window; a recording that is shorter, or an encoder without windows, has one row of whole chunks."""
    length = bucket(-(-recording.num_frames // config.chunk_frames)) * config.chunk_frames
    if config.window_frames is not None:
        length = min(length, config.window_frames)
    count = -(-recording.num_frames // length)
    return _Walk(start, min(bucket(count), windows), length, config.num_tokens(length), count)


def _slots(
    examples: Sequence[StreamedExample], config: ThinkerConfig, seen: list[_Walk], heard: list[_Walk]
) -> list[np.ndarray]:
    see, hear, slots = iter(seen), iter(heard), []
    for number, example in enumerate(examples):
        places: dict[Kind, list[np.ndarray]] = {kind: [] for kind in (Kind.IMAGE, Kind.VIDEO, Kind.AUDIO)}
        for kind, items in ((Kind.IMAGE, example.images), (Kind.VIDEO, example.videos)):
            for item, walk in zip(items, see, strict=False):
                t, h, w = item.grid
                assert config.vision is not None
                places[kind] += table_rows(walk.start, walk.width, [h * w // config.vision.merged_patches] * t)
        for recording, walk in zip(example.recordings, hear, strict=False):
            assert config.audio is not None
            # Only its last row is not full.
            places[Kind.AUDIO].append(walk.start + np.arange(config.audio.num_tokens(recording.num_frames)))
        slots.append(fill_slots(number, example.sequence, places))
    return slots


def _picture_pieces(item: Pictures, walk: _Walk) -> Iterator[tuple[int, Media]]:
    """Rows of patches, and the row of the table where their outputs begin."""
    _, height, width = item.grid
    frames, given = iter(item.patches), 0
    while group := list(itertools.islice(frames, walk.rows)):
        at = walk.start + given * walk.width
        given += len(group)
        _require("pictures", "temporal patches", given, walk.filled, more=False)
        yield at, Media(*frame_rows([(x, (1, height, width)) for x in group], rows=walk.rows, length=walk.length))
    _require("pictures", "temporal patches", given, walk.filled)


def _recording_pieces(recording: Recording, walk: _Walk) -> Iterator[tuple[int, Media]]:
    """The same for rows of log-mel frames."""
    given = 0
    for piece in _regular(recording.blocks, walk.rows * walk.length):
        at = walk.start + given // walk.length * walk.width
        given += len(piece)
        _require("recording", "frames", given, recording.num_frames, more=False)
        features = np.zeros((walk.rows * walk.length, piece.shape[1]), np.float32)
        features[: len(piece)] = piece
        frames = np.clip(len(piece) - walk.length * np.arange(walk.rows), 0, walk.length).astype(np.int32)
        yield at, Media(features=features.reshape(walk.rows, walk.length, -1), frames=frames)
    _require("recording", "frames", given, recording.num_frames)


def _regular(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same frames in blocks of `size`, the last one shorter."""
    held: list[np.ndarray] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count < size:
            continue
        joined = np.concatenate(held)
        yield from (joined[start : start + size] for start in range(0, count - size + 1, size))
        count %= size
        held = [joined[len(joined) - count :].copy()]
    if count:
        yield np.concatenate(held)


def _require(what: str, unit: str, given: int, announced: int, *, more: bool = True) -> None:
    if given > announced or (more and given < announced):
        raise ValueError(f"{what} of {given} {unit}: accepted is {announced}, as announced")
