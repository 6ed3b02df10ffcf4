"""Utterances as rows of stream steps, padded: what one training step reads. Plain numpy, made in loader workers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qomni_jax.talker.interleaver import END_OF_SPEECH, TEXT, Interleaver

PROMPT_LENGTH = 2


class Utterance(NamedTuple):
    """One item: `prompt [2]`, `text [T]` ids with end-of-text last, `codes [S, Q]`, and for the oracle path the frame
    at which each text token's word starts, `text_times [T]` float."""

    prompt: np.ndarray
    text: np.ndarray
    codes: np.ndarray
    text_times: np.ndarray | None = None


class BatchShape(NamedTuple):
    """The fixed sizes of a batch: row length P, codebooks Q, classes of codebook 0, residual frames in all (M)."""

    length: int
    num_codebooks: int
    codebook_size: int
    residual_frames: int


def row_length(interleaver: Interleaver, num_text: int, num_frames: int) -> int:
    """Stream steps of an item's row with its prompt; the same for every path of a scheme."""
    times = np.linspace(0, num_frames, num_text)
    return PROMPT_LENGTH - 1 + interleaver.layout(num_text, num_frames, np.random.default_rng(0), times).target.size


def make_batch(
    items: Sequence[Utterance],
    interleaver: Interleaver,
    shape: BatchShape,
    rng: np.random.Generator,
    *,
    frame_dropout: float,
) -> dict[str, np.ndarray]:
    """Lays out `items` as rows.

    Returns int32 `text [B, P]` (-1 none), `codes [B, P, Q]`, `frame [B, P]` (0 none, 1 frame, 2 hidden frame),
    `target [B, P]` (class of the first head, -1 no loss), float32 `mask [B, P]`, and for M frames drawn from the batch:
    `residual_step [M]` (flat index b * P + p of the step that predicts the frame), `residual_codes [M, Q]`,
    `residual_weight [M]`.

    Raises ValueError for a row longer than `shape.length`.
    """
    batch, length = len(items), shape.length
    text = np.full((batch, length), -1, np.int32)
    codes = np.zeros((batch, length, shape.num_codebooks), np.int32)
    frame = np.zeros((batch, length), np.int32)
    target = np.full((batch, length), -1, np.int32)
    mask = np.zeros((batch, length), np.float32)
    steps_of_frames, frames = [], []
    for row, item in enumerate(items):
        layout = interleaver.layout(len(item.text), len(item.codes), rng, item.text_times)
        first = PROMPT_LENGTH - 1
        size = first + layout.target.size
        if size > length:
            raise ValueError(f"a row of {size} stream steps: accepted is {length} or fewer in this bucket")
        mask[row, :size] = 1.0
        text[row, :PROMPT_LENGTH] = item.prompt
        has_text, has_frame = layout.text >= 0, layout.frame >= 0
        text[row, first:size][has_text] = item.text[layout.text[has_text]]
        codes[row, first:size][has_frame] = item.codes[layout.frame[has_frame]]
        hidden = rng.random(layout.frame.size) < rng.uniform(0.0, 2 * frame_dropout)
        frame[row, first:size] = np.where(has_frame, 1 + hidden, 0)
        speaks = layout.target >= 0
        classes = np.full(layout.target.size, -1, np.int32)
        classes[speaks] = item.codes[layout.target[speaks], 0]
        classes[layout.target == TEXT] = shape.codebook_size
        classes[layout.target == END_OF_SPEECH] = shape.codebook_size + 1
        target[row, first:size] = classes
        steps_of_frames.append(row * length + first + np.flatnonzero(speaks))
        frames.append(item.codes[layout.target[speaks]])

    all_steps, all_frames = np.concatenate(steps_of_frames), np.concatenate(frames)
    drawn = rng.permutation(all_steps.size)[: shape.residual_frames]
    missing = shape.residual_frames - drawn.size
    return {
        "text": text,
        "codes": codes,
        "frame": frame,
        "target": target,
        "mask": mask,
        "residual_step": np.pad(all_steps[drawn], (0, missing)).astype(np.int32),
        "residual_codes": np.pad(all_frames[drawn], ((0, missing), (0, 0))).astype(np.int32),
        "residual_weight": np.pad(np.ones(drawn.size, np.float32), (0, missing)),
    }
