"""Prompts as released models' own processors make them: ids with a pad token for every feature, grids beside them."""

from collections.abc import Iterator, Mapping, Sequence
import itertools

import numpy as np

from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.sequence.assembly import OmniSequence
from qomni_jax.sequence.elements import Kind, Slots
from qomni_jax.sequence.interleave import Patch, merge
from qomni_jax.sequence.media_sizes import AudioSize, ImageSize, MediaSize, VideoSize
from qomni_jax.sequence.positions import position_rule
from qomni_jax.sequence.timestamps import temporal_id
from qomni_jax.storage.errors import CheckpointError


def read_prompt(
    ids: np.ndarray, pads: Mapping[Kind, int], sizes: Mapping[Kind, Sequence[MediaSize]], config: SequenceConfig
) -> OmniSequence:
    """`ids [T]` of one prompt as a sequence, for Qwen3.5 and Qwen3-Omni (`config`).

    `pads` are the ids that stand for features, `sizes` those of the audio, images and videos in order. A video whose
    sound is merged into it (`audio_tokens`) takes no entry under audio. Positions of the two are those of the merge,
    whatever order their ids have: so does the reference.

    Raises CheckpointError where ids and sizes do not agree.
    """
    rule = position_rule(config)
    kind_of = {token: kind for kind, token in pads.items()}
    kinds = np.array([kind_of.get(token, Kind.TEXT) for token in ids.tolist()], np.int8)
    rest = {kind: iter(sizes.get(kind, ())) for kind in pads}
    positions = []
    at = 0
    while at < len(ids):
        run = _run(kinds, at)
        if kinds[at] == Kind.TEXT:
            positions.append(rule.text(run))
            at += run
            continue
        size = _next_size(kinds, at, rest)
        for group in _groups(size, config, _media_run(kinds, at)):
            gap = _run(kinds, at) if kinds[at] == Kind.TEXT else 0  # between the patches of one video
            if gap:
                positions.append(rule.text(gap))
            rule.begin_item()
            positions += [rule.slots(slots) for slots in group]
            rule.end_item()
            at += gap + sum(slots.size for slots in group)
    index = np.full(len(ids), -1, np.int32)
    for kind in pads:
        here = kinds == kind
        index[here] = np.arange(np.sum(here))
    laid_out = sum(part.shape[1] for part in positions)
    if laid_out != len(ids) or any(next(items, None) is not None for items in rest.values()):
        raise CheckpointError(f"prompt of {len(ids)} tokens: its media fill {laid_out}: accepted are ids that fit them")
    return OmniSequence(
        tokens=ids.astype(np.int32),
        kinds=kinds,
        feature_index=index,
        positions=np.concatenate(positions, axis=1),
        segment_ids=np.zeros(len(ids), np.int32),
        loss_weights=np.zeros(len(ids), np.float32),
    )


def _run(kinds: np.ndarray, at: int) -> int:
    """How many positions from `at` on are of one kind."""
    return len(list(itertools.takewhile(lambda kind: kind == kinds[at], kinds[at:].tolist())))


def _media_run(kinds: np.ndarray, at: int) -> int:
    """How many positions from `at` on are of any media."""
    return len(list(itertools.takewhile(lambda kind: kind != Kind.TEXT, kinds[at:].tolist())))


def _next_size(kinds: np.ndarray, at: int, rest: Mapping[Kind, Iterator[MediaSize]]) -> MediaSize:
    run = kinds[at : at + _media_run(kinds, at)]
    kind = Kind.VIDEO if Kind.VIDEO in run else Kind(int(kinds[at]))
    size = next(rest[kind], None)
    if size is None:
        raise CheckpointError(f"prompt: token {at} stands for {kind.name.lower()}: accepted is one size for each item")
    return size


def _groups(size: MediaSize, config: SequenceConfig, run: int) -> Iterator[list[Slots]]:
    """The slots of an item, in groups with text between them where its patches do not stand side by side."""
    if isinstance(size, AudioSize):
        yield [Slots(Kind.AUDIO, size.tokens)]
        return
    height, width = (side // config.spatial_merge for side in size.grid[1:])
    patch = Slots(Kind.VIDEO if isinstance(size, VideoSize) else Kind.IMAGE, height * width, 0, height, width)
    if isinstance(size, ImageSize):
        yield [patch]
        return
    ats = [temporal_id(time, config) for time in size.patch_times]
    if size.audio_tokens is not None:
        yield [
            patch._replace(at=piece.at) if isinstance(piece, Patch) else Slots(Kind.AUDIO, piece.size, piece.first)
            for piece in merge(size.audio_tokens, ats)
        ]
    elif run >= patch.size * len(ats):
        yield [patch._replace(at=at) for at in ats]
    else:
        yield from ([patch] for _ in ats)
