"""One conversation as the arrays that a model reads."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.sequence.chat import Turn
from qomni_jax.sequence.elements import Element, Kind, Slots
from qomni_jax.sequence.encoding import ItemRun, TextRun, encode
from qomni_jax.sequence.layout import lay_out
from qomni_jax.sequence.media_sizes import MediaSize
from qomni_jax.sequence.positions import position_rule
from qomni_jax.sequence.special_tokens import AUDIO_PAD, IMAGE_PAD, VIDEO_PAD
from qomni_jax.sequence.tokenizer import TokenizerProtocol

PAD_OF = {Kind.AUDIO: AUDIO_PAD, Kind.IMAGE: IMAGE_PAD, Kind.VIDEO: VIDEO_PAD}


class OmniSequence(NamedTuple):
    """A conversation of T tokens, or rows `[R, T]` of several (`packing`). Numpy arrays, a pytree.

    Attributes:
      tokens: int32 `[T]`, ids; a pad token of its modality where a feature goes.
      kinds: int8 `[T]`, `Kind` of each position: whose features go there, TEXT or PADDING.
      feature_index: int32 `[T]`, which of that kind's encoder outputs goes there, those of the sequence's (or row's)
        items one after the other; -1 for text.
      positions: int32 or float32 `[3, T]` (rows: `[3, R, T]`): time, height, width.
      segment_ids: int32 `[T]`, which sequence a position of a packed row belongs to, from 0, never decreasing.
      loss_weights: float32 `[T]`, weight of the loss of predicting this token from those before it.
    """

    tokens: np.ndarray
    kinds: np.ndarray
    feature_index: np.ndarray
    positions: np.ndarray
    segment_ids: np.ndarray
    loss_weights: np.ndarray

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.tokens.shape[-1]


def assemble(
    conversation: Sequence[Turn],
    sizes: Sequence[MediaSize],
    tokenizer: TokenizerProtocol,
    config: SequenceConfig,
    *,
    rng: np.random.Generator | None = None,
    reply: bool = False,
) -> OmniSequence:
    """A conversation, whose media items have `sizes` in order, as one sequence of its own segment.

    `rng` draws the intervals of audio timestamps in training; without it they are regular. `reply` adds the head of an
    assistant's turn, for generation. Raises ValueError where sizes do not match the media, a grid is not whole in
    tokens, or the tokenizer lacks a special token.
    """
    return assemble_elements(lay_out(conversation, sizes, config, rng=rng, reply=reply), tokenizer, config)


def assemble_elements(
    elements: Sequence[Element], tokenizer: TokenizerProtocol, config: SequenceConfig
) -> OmniSequence:
    """Elements of a layout, at least one of them, as one sequence; errors as those of `assemble`."""
    rule = position_rule(config)
    tokens, positions, kinds, indices, weights = [], [], [], [], []
    seen = dict.fromkeys(PAD_OF, 0)

    def add(run: TextRun | Slots) -> None:
        if isinstance(run, TextRun):
            tokens.append(run.ids)
            positions.append(rule.text(len(run.ids), run.at))
            kinds.append(np.full(len(run.ids), Kind.TEXT))
            indices.append(np.full(len(run.ids), -1))
            weights.append(np.full(len(run.ids), run.weight))
            return
        tokens.append(np.full(run.size, tokenizer.special(PAD_OF[run.kind])))
        positions.append(rule.slots(run))
        kinds.append(np.full(run.size, run.kind))
        indices.append(np.arange(run.size) + seen[run.kind])
        weights.append(np.zeros(run.size))
        seen[run.kind] += run.size

    for run in encode(elements, tokenizer):
        if isinstance(run, ItemRun):
            rule.begin_item()
            for inner in run.runs:
                add(inner)
            rule.end_item()
        else:
            add(run)
    ids = np.concatenate(tokens).astype(np.int32)
    return OmniSequence(
        tokens=ids,
        kinds=np.concatenate(kinds).astype(np.int8),
        feature_index=np.concatenate(indices).astype(np.int32),
        positions=np.concatenate(positions, axis=1),
        segment_ids=np.zeros(len(ids), np.int32),
        loss_weights=np.concatenate(weights).astype(np.float32),
    )
