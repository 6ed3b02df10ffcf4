"""A conversation with its media, read and ready for a model."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qomni_jax.sequence.assembly import OmniSequence

Grid = tuple[int, int, int]  # temporal patches, rows and columns of patches


class Example(NamedTuple):
    """A conversation, and its media in the order in which they stand in it.

    Attributes:
      sequence: of one conversation, or one row of several (`sequence.packing`).
      images, videos: patches `[t * h * w, patch]` and grid of each (`vision.patches`).
      recordings: log-mel frames `[F, mels]` of each, the sound of videos among them.
      transcripts: for training, the tokens `[n]` int32 of what each recording says, none where that is not known; empty
        where it is known of none.
    """

    sequence: OmniSequence
    images: Sequence[tuple[np.ndarray, Grid]] = ()
    videos: Sequence[tuple[np.ndarray, Grid]] = ()
    recordings: Sequence[np.ndarray] = ()
    transcripts: Sequence[np.ndarray] = ()
