"""A conversation with its media, ready for a model: in memory, or read while it is encoded."""

from collections.abc import Iterable, Sequence
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
      captions: for training, the tokens `[n]` int32 of what each temporal patch shows, of the images and then of the
        videos; none where that is not known, and empty where it is known of none.
    """

    sequence: OmniSequence
    images: Sequence[tuple[np.ndarray, Grid]] = ()
    videos: Sequence[tuple[np.ndarray, Grid]] = ()
    recordings: Sequence[np.ndarray] = ()
    transcripts: Sequence[np.ndarray] = ()
    captions: Sequence[np.ndarray] = ()

    @property
    def temporal_patches(self) -> int:
        """Of all images and videos."""
        return sum(t for _, (t, _, _) in (*self.images, *self.videos))


class Pictures(NamedTuple):
    """An image or a video: its grid, and the patches `[h * w, patch]` of one temporal patch after the other."""

    grid: Grid
    patches: Iterable[np.ndarray]


class Recording(NamedTuple):
    """A recording: how many log-mel frames it has, and these in blocks `[n, mels]` of any lengths."""

    num_frames: int
    blocks: Iterable[np.ndarray]


class StreamedExample(NamedTuple):
    """An `Example` whose media come piece by piece, once, so that they may be of any length (`thinker.encode_media`).

    What reading a medium raises, walking over it raises.
    """

    sequence: OmniSequence
    images: Sequence[Pictures] = ()
    videos: Sequence[Pictures] = ()
    recordings: Sequence[Recording] = ()

    def read(self) -> Example:
        """All of it in memory."""
        images, videos = (
            [(np.concatenate(list(item.patches)), item.grid) for item in items] for items in (self.images, self.videos)
        )
        recordings = [np.concatenate(list(recording.blocks)) for recording in self.recordings]
        return Example(self.sequence, images, videos, recordings)
