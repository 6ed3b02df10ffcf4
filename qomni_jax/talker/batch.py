"""Utterances as stream steps, packed into rows: what one training step reads. Plain numpy, made in loader workers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qomni_jax.talker.interleaver import END_OF_SPEECH, NO_TIMES, TEXT, Interleaver, TextTimes
from qomni_jax.talker.prompt import Prompt, as_prompt


class Utterance(NamedTuple):
    """One item: its prompt (of text alone: ids `[P]`), `text [T]` ids with end-of-text last, `codes [S, Q]`, and when
    its tokens start."""

    prompt: np.ndarray | Prompt
    text: np.ndarray
    codes: np.ndarray
    times: TextTimes = NO_TIMES


class BatchShape(NamedTuple):
    """The fixed sizes of a batch: rows R of P stream steps, codebooks Q, codes a codebook, residual frames in all M."""

    rows: int
    length: int
    num_codebooks: int
    codebook_size: int
    residual_frames: int


def stream_length(interleaver: Interleaver, item: Utterance) -> int:
    """Stream steps of an item with its prompt; the same for every path of a scheme."""
    layout = interleaver.layout(len(item.text), len(item.codes), np.random.default_rng(0), item.times)
    return len(item.prompt) - 1 + layout.target.size


def pack(sizes: Sequence[int], length: int) -> list[list[int]]:
    """First-fit decreasing: items of `sizes`, at most `length` each, in rows of `length`, as lists of item numbers."""
    rows: list[list[int]] = []
    room: list[int] = []
    for item in np.argsort(sizes, kind="stable")[::-1]:
        size = int(sizes[item])
        row = next((r for r, free in enumerate(room) if free >= size), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(length)
        rows[row].append(int(item))
        room[row] -= size
    return rows


def make_batch(
    items: Sequence[Utterance],
    interleaver: Interleaver,
    shape: BatchShape,
    rng: np.random.Generator,
    *,
    frame_dropout: float,
) -> dict[str, np.ndarray]:
    """Lays out `items` as stream steps and packs them into rows. Frames of a prompt are never hidden.

    Returns int32 `text [R, P]` (-1 none), `codes [R, P, Q]`, `frame [R, P]` (0 none, 1 frame, 2 hidden frame),
    `target [R, P]` (class of the first head, -1 no loss), `position [R, P]` (from 0 in each item), `segment [R, P]`
    (an item's number in its row; padding has one of its own), float32 `mask [R, P]`, and for M frames drawn from the
    batch: `residual_step [M]` (flat index r * P + p of the step that predicts the frame), `residual_codes [M, Q]`,
    `residual_weight [M]`.

    Raises ValueError when the items do not fit.
    """
    grid = (shape.rows, shape.length)
    text, target = np.full(grid, -1, np.int32), np.full(grid, -1, np.int32)
    frame, position = np.zeros(grid, np.int32), np.zeros(grid, np.int32)
    codes = np.zeros((*grid, shape.num_codebooks), np.int32)
    segment = np.full(grid, len(items), np.int32)
    mask = np.zeros(grid, np.float32)
    layouts = [interleaver.layout(len(item.text), len(item.codes), rng, item.times) for item in items]
    prompts = [as_prompt(item.prompt, shape.num_codebooks) for item in items]
    # The layout's first step is the prompt's last.
    sizes = [len(prompt) - 1 + layout.target.size for prompt, layout in zip(prompts, layouts, strict=True)]
    rows = pack(sizes, shape.length) if max(sizes) <= shape.length else []
    if not 0 < len(rows) <= shape.rows:
        raise ValueError(
            f"{len(items)} utterances of up to {max(sizes)} stream steps do not fit a batch: accepted is what fits "
            f"{shape.rows} rows of {shape.length}"
        )
    steps_of_frames, frames = [], []
    for row, members in enumerate(rows):
        start = 0
        for number, member in enumerate(members):
            item, prompt, layout, size = items[member], prompts[member], layouts[member], sizes[member]
            everything, before = slice(start, start + size), slice(start, start + len(prompt))
            stream = slice(before.stop - 1, start + size)
            mask[row, everything], segment[row, everything] = 1.0, number
            position[row, everything] = np.arange(size)
            text[row, before], codes[row, before] = prompt.text, np.maximum(prompt.codes, 0)
            frame[row, before] = prompt.has_frame
            has_text, has_frame, speaks = layout.text >= 0, layout.frame >= 0, layout.target >= 0
            text[row, stream][has_text] = item.text[layout.text[has_text]]
            codes[row, stream][has_frame] = item.codes[layout.frame[has_frame]]
            hidden = rng.random(layout.frame.size) < rng.uniform(0.0, 2 * frame_dropout)
            frame[row, stream][has_frame] = 1 + hidden[has_frame]
            target[row, stream][speaks] = item.codes[layout.target[speaks], 0]
            target[row, stream][layout.target == TEXT] = shape.codebook_size
            target[row, stream][layout.target == END_OF_SPEECH] = shape.codebook_size + 1
            steps_of_frames.append(row * shape.length + stream.start + np.flatnonzero(speaks))
            frames.append(item.codes[layout.target[speaks]])
            start += size

    all_steps, all_frames = np.concatenate(steps_of_frames), np.concatenate(frames)
    drawn = rng.permutation(all_steps.size)[: shape.residual_frames]
    missing = shape.residual_frames - drawn.size
    return {
        "text": text,
        "codes": codes,
        "frame": frame,
        "target": target,
        "position": position,
        "segment": segment,
        "mask": mask,
        "residual_step": np.pad(all_steps[drawn], (0, missing)).astype(np.int32),
        "residual_codes": np.pad(all_frames[drawn], ((0, missing), (0, 0))).astype(np.int32),
        "residual_weight": np.pad(np.ones(drawn.size, np.float32), (0, missing)),
    }
