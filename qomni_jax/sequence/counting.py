"""How many tokens a conversation takes, from the sizes of its media, before any of them is decoded."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.sequence.chat import Turn
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.encoding import ItemRun, TextRun, encode
from qomni_jax.sequence.layout import lay_out
from qomni_jax.sequence.media_sizes import MediaSize
from qomni_jax.sequence.tokenizer import TokenizerProtocol


class TokenCount(NamedTuple):
    """Tokens by what stands at them; text includes brackets and timestamps."""

    text: int
    audio: int
    image: int
    video: int

    @property
    def total(self) -> int:
        """The length of the assembled sequence."""
        return sum(self)


def count_tokens(
    conversation: Sequence[Turn],
    sizes: Sequence[MediaSize],
    tokenizer: TokenizerProtocol,
    config: SequenceConfig,
    *,
    rng: np.random.Generator | None = None,
    reply: bool = False,
) -> TokenCount:
    """Tokens of `assembly.assemble` with the same arguments (and an `rng` in the same state); the same errors."""
    counts = dict.fromkeys(Kind, 0)
    for outer in encode(lay_out(conversation, sizes, config, rng=rng, reply=reply), tokenizer):
        for run in outer.runs if isinstance(outer, ItemRun) else (outer,):
            if isinstance(run, TextRun):
                counts[Kind.TEXT] += len(run.ids)
            else:
                counts[run.kind] += run.size
    return TokenCount(counts[Kind.TEXT], counts[Kind.AUDIO], counts[Kind.IMAGE], counts[Kind.VIDEO])
