"""A judged sentence as the report reads it."""

from collections.abc import Sequence
import difflib
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from experiments.judge import HeardWord, Judgement


def judged_item(
    judgement: Judgement,
    *,
    seconds: float,
    reference_seconds: float,
    wav: str | None = None,
    ended: bool = True,
    steps: str | None = None,
    lag: Sequence[tuple[float, float]] = (),
) -> dict[str, Any]:
    """The JSON record of one sentence.

    `early_stop`: speech ended by itself and the last word of the reference is not the last one heard. `runaway`: it
    did not end by itself. `steps`: the stream, one letter a step. `lag`: `(time, text-to-voice lag)` in seconds.
    """
    heard = judgement.hypothesis.split()
    finished = bool(heard) and heard[-1] == judgement.reference.split()[-1]
    return {
        "id": judgement.id,
        "reference": judgement.reference,
        "hypothesis": judgement.hypothesis,
        "words": judgement.words,
        "substitutions": judgement.substitutions,
        "deletions": judgement.deletions,
        "insertions": judgement.insertions,
        "repeats": judgement.repeats,
        "early_stop": ended and not finished and judgement.deletions > 0,
        "runaway": not ended,
        "seconds": seconds,
        "reference_seconds": reference_seconds,
        "lag": [list(point) for point in lag],
        "wav": wav,
        "interleaving": steps,
    }


def text_to_voice_lag(
    heard: Sequence[HeardWord], reference: str, word_of_token: Sequence[int], steps: str, frame_seconds: float
) -> list[tuple[float, float]]:
    """For each word said as written: when its voice starts, and how long after its last text token came that is.

    `word_of_token [T - 1]` is the word of each text token (end-of-text left out); the time at which a token comes is
    that of the frames before it in the stream. Returns `(start, lag)` in seconds; a negative lag is speech ahead of
    its text.
    """
    arrival, frames = [], 0
    for step in steps:
        if step in "tb":
            arrival.append(frames * frame_seconds)
        frames += step in "sb"
    last_token = {word: token for token, word in enumerate(word_of_token)}
    said = [word.word for word in heard]
    blocks = difflib.SequenceMatcher(None, reference.split(), said, autojunk=False).get_matching_blocks()
    points = []
    for block in blocks:
        for offset in range(block.size):
            token = last_token.get(block.a + offset)
            if token is not None and token < len(arrival):
                start = heard[block.b + offset].start
                points.append((round(start, 3), round(start - arrival[token], 3)))
    return points


def write_wav(path: Path, audio: np.ndarray, sample_rate: int) -> None:
    """Writes float audio `[n]` as 16-bit wav."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(audio, -1.0, 1.0), sample_rate, subtype="PCM_16")
