"""The merge of a video with its sound by temporal id, video first on ties, the same for any pieces they come in.

Audio token i has temporal id i; temporal patches have ids that never decrease (`timestamps.temporal_id`). Source:
Qwen3-Omni, whose merge is by single tokens: those of a patch share an id, so that no audio comes between them.
"""

from collections import deque
from collections.abc import Iterable, Sequence
import math
from typing import NamedTuple


class AudioRun(NamedTuple):
    """Audio tokens `first`, `first + 1`, ..., `size` of them."""

    first: int
    size: int


class Patch(NamedTuple):
    """Temporal patch `number` with temporal id `at`."""

    number: int
    at: float


class AudioVideoMerge:
    """Gives out what has come of both streams as soon as nothing that is still to come can stand before it."""

    def __init__(self) -> None:
        self._patches: deque[Patch] = deque()
        self._num_patches = 0
        self._heard = 0  # audio tokens that have come
        self._given = 0  # audio tokens that have been given out
        self._no_patch_before = 0.0
        self._audio_ended = False

    def audio(self, count: int) -> list[AudioRun | Patch]:
        """The next `count` audio tokens have come."""
        self._heard += count
        return self._drain()

    def video(self, ats: Iterable[float]) -> list[AudioRun | Patch]:
        """The next temporal patches have come, with these ids."""
        for at in ats:
            self._patches.append(Patch(self._num_patches, at))
            self._num_patches += 1
            self._no_patch_before = max(self._no_patch_before, at)
        return self._drain()

    def no_patch_before(self, at: float) -> list[AudioRun | Patch]:
        """No further patch will have an id below `at`: audio before it need not wait for one."""
        self._no_patch_before = max(self._no_patch_before, at)
        return self._drain()

    def end_audio(self) -> list[AudioRun | Patch]:
        """There is no more audio: patches wait no longer."""
        self._audio_ended = True
        return self._drain()

    def end_video(self) -> list[AudioRun | Patch]:
        """There are no more patches: audio waits no longer."""
        return self.no_patch_before(math.inf)

    def _drain(self) -> list[AudioRun | Patch]:
        merged: list[AudioRun | Patch] = []
        while self._patches:
            self._give_audio_before(self._patches[0].at, merged)
            if self._given < self._patches[0].at and not self._audio_ended:
                return merged
            merged.append(self._patches.popleft())
        self._give_audio_before(self._no_patch_before, merged)
        return merged

    def _give_audio_before(self, at: float, merged: list[AudioRun | Patch]) -> None:
        end = self._heard if at >= self._heard else math.ceil(at)
        if end > self._given:
            merged.append(AudioRun(self._given, end - self._given))
            self._given = end


def merge(audio_tokens: int, ats: Sequence[float]) -> list[AudioRun | Patch]:
    """A whole video's patches with ids `ats` and `audio_tokens` audio tokens in order; no two audio runs in a row."""
    stream = AudioVideoMerge()
    return [*stream.video(ats), *stream.end_video(), *stream.audio(audio_tokens), *stream.end_audio()]
