"""Conversations with their media as one training batch: packed rows of a fixed shape."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.example import Example
from qomni_jax.sequence.packing import Packed, pack
from qomni_jax.thinker.batch import MediaShape, place_media
from qomni_jax.thinker.model import Media
from qomni_jax.training.losses import IGNORED


class BatchShape(NamedTuple):
    """Rows and tokens of each, the least shape of the media, and the most tokens of a transcript and of a caption."""

    rows: int
    row_length: int
    media: MediaShape
    labels: int
    captions: int = 0


def training_batch(
    examples: Sequence[Example], config: ThinkerConfig, shape: BatchShape, *, pad_token: int, number: int
) -> dict[str, np.ndarray]:
    """What `thinker_step.thinker_loss` reads: arrays of one shape, whatever the examples.

    `tokens`, `counts`, `segment_ids`, `mask`, `slots` `[R, T]`, `positions [3, R, T]`; the fields of `Media` that are
    there; `labels [A, U]`, the transcripts' tokens, `IGNORED` after their end; `captions [R', U']`, likewise, of the
    rows of patches; `number`, as given; `conversations`, how many examples are in it: those beyond `shape.rows` full
    rows are left out.

    Raises ValueError for an example longer than a row, or a transcript or caption of more tokens than `shape` has.
    """
    packed = pack([example.sequence for example in examples], shape.row_length, pad_token)
    rows = _row_examples(examples, packed)[: shape.rows]
    media, slots = place_media(rows, config, shape.media)
    recordings = 0 if media is None or media.features is None else len(media.features)
    frames = 0 if media is None or media.patches is None else len(media.patches)
    transcripts = [transcript for row in rows for transcript in row.transcripts]
    captions = [caption for row in rows for caption in row.captions]
    more = shape.rows - len(rows)
    sequences = [row.sequence for row in rows]

    def joined(arrays: list[np.ndarray], fill: float) -> np.ndarray:
        """`[..., T]` each -> `[..., R, T]`."""
        stacked = np.stack(arrays, axis=-2)
        return np.pad(stacked, [(0, 0)] * (stacked.ndim - 2) + [(0, more), (0, 0)], constant_values=fill)

    batch: dict[str, np.ndarray] = {
        "tokens": joined([s.tokens for s in sequences], pad_token),
        "counts": joined([s.loss_weights for s in sequences], 0.0),
        "segment_ids": joined([s.segment_ids for s in sequences], 0),
        "mask": joined([(s.kinds != Kind.PADDING).astype(np.float32) for s in sequences], 0.0),
        "positions": joined([s.positions for s in sequences], 0),
        "slots": joined(slots, -1),
        "labels": label_table(transcripts, (recordings, shape.labels), "transcript"),
        "captions": label_table(captions, (frames, shape.captions), "caption"),
        "number": np.array(number, np.int32),
        "conversations": np.array(sum(len(members) for members in packed.members[: shape.rows]), np.int32),
    }
    if media is not None:
        parts = zip(Media._fields, media, strict=True)
        batch |= {name: np.asarray(array) for name, array in parts if array is not None}
    return batch


def rows_of(examples: Sequence[Example], row_length: int, pad_token: int) -> int:
    """How many rows the examples fill; errors as `training_batch`."""
    return len(pack([example.sequence for example in examples], row_length, pad_token).members)


def label_table(texts: Sequence[np.ndarray], shape: tuple[int, int], name: str) -> np.ndarray:
    """Each text `[n]` in a row of its own of the table of `shape`, `IGNORED` after it and in the rows that are left.

    Raises ValueError, with the `name` of what it is, for a text that is longer than a row.
    """
    table = np.full(shape, IGNORED, np.int32)
    for row, text in zip(table, texts, strict=False):
        if len(text) > shape[1]:
            raise ValueError(f"a {name} of {len(text)} tokens: accepted are at most {shape[1]}")
        row[: len(text)] = text
    return table


def _row_examples(examples: Sequence[Example], packed: Packed) -> list[Example]:
    """Each packed row with the media of its members."""
    found = []
    for number, members in enumerate(packed.members):
        own = [examples[member] for member in members]
        sequence = packed.rows._replace(
            **{
                name: array[:, number] if name == "positions" else array[number]
                for name, array in packed.rows._asdict().items()
            }
        )
        found.append(
            Example(
                sequence,
                [item for e in own for item in e.images],
                [item for e in own for item in e.videos],
                [item for e in own for item in e.recordings],
                [item for e in own for item in e.transcripts or [_UNKNOWN] * len(e.recordings)],
                _captions_of(own),
            )
        )
    return found


def _captions_of(examples: Sequence[Example]) -> list[np.ndarray]:
    """One for every temporal patch of the images of all, and then of their videos."""
    images, videos = [], []
    for example in examples:
        captions = list(example.captions or [_UNKNOWN] * example.temporal_patches)
        still = sum(t for _, (t, _, _) in example.images)
        images += captions[:still]
        videos += captions[still:]
    return images + videos


_UNKNOWN = np.zeros(0, np.int32)
