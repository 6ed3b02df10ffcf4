"""Judges speech by an independent recogniser: hypotheses with word times, and word errors against the reference.

The recogniser is `experiments.recogniser`. It runs in worker processes that are started afresh (no fork of a process
that holds JAX's threads) and that never import jax.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import dataclasses
import importlib.metadata
import io
import json
import os
import pathlib
import subprocess
import sys

import jiwer
import numpy as np

from experiments import recogniser
from experiments.metrics import repeated_words
from experiments.recogniser import DEFAULTS, SAMPLE_RATE, RecogniserSettings


@dataclasses.dataclass(frozen=True)
class JudgeItem:
    """A sentence to judge: `audio` float32 [n] at 16 kHz, any n; `reference` what it ought to say, space-separated."""

    id: str
    audio: np.ndarray
    reference: str


@dataclasses.dataclass(frozen=True)
class HeardWord:
    """A word and when it was said, in seconds from the start of the audio; steps of 10 ms."""

    word: str
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What was heard. `words` is the length of the reference; `repeats` is `metrics.repeated_words`."""

    id: str
    reference: str
    hypothesis: str
    heard: tuple[HeardWord, ...]
    words: int
    substitutions: int
    deletions: int
    insertions: int
    repeats: int


def judge(
    items: Sequence[JudgeItem],
    vocabulary: Sequence[str] | None = None,
    *,
    workers: int | None = None,
    settings: RecogniserSettings = DEFAULTS,
) -> list[Judgement]:
    """One judgement an item, in the order of the items; the same audio always gets the same judgement.

    `vocabulary` is the closed list of words that can be heard; None stands for the 26 NATO words. `workers` is the
    number of processes; None takes one a core. Raises ValueError for audio that is not float [n] and finite, an empty
    reference, a reference word outside the vocabulary, and a vocabulary word that the recogniser does not know.
    """
    words = tuple(_nato_words() if vocabulary is None else vocabulary)
    for item in items:
        _check(item, words)
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers={workers}; accepted: 1 or more")
    # The longest first, dealt round: every worker gets about the same number of seconds.
    order = sorted(range(len(items)), key=lambda index: -len(items[index].audio))
    shares = [order[start::workers] for start in range(min(workers, len(items)))]
    heard: list[list[HeardWord]] = [[] for _ in items]
    with ThreadPoolExecutor(max(1, len(shares))) as pool:
        answers = pool.map(lambda share: _hear([items[index].audio for index in share], words, settings), shares)
        for share, answer in zip(shares, answers, strict=True):
            for index, said in zip(share, answer, strict=True):
                heard[index] = said
    return [_judgement(item, said) for item, said in zip(items, heard, strict=True)]


def describe(vocabulary: Sequence[str] | None = None, settings: RecogniserSettings = DEFAULTS) -> dict:
    """What the report says of the judge: `{"name", "grammar", "settings"}`."""
    words = tuple(_nato_words() if vocabulary is None else vocabulary)
    return {
        "name": f"pocketsphinx {importlib.metadata.version('pocketsphinx')}, en-us",
        "grammar": f"any sequence of {len(words)} words: {' '.join(words)}",
        "settings": dataclasses.asdict(settings),
    }


def _nato_words() -> Sequence[str]:
    from data_pipelines.speech_corpus.grammar import NATO_WORDS

    return NATO_WORDS


def _check(item: JudgeItem, vocabulary: Sequence[str]) -> None:
    audio = np.asarray(item.audio)
    if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(
            f"item {item.id!r}: audio is {audio.dtype} {list(audio.shape)}; accepted: float [n] at {SAMPLE_RATE} Hz"
        )
    if not np.isfinite(audio).all():
        raise ValueError(f"item {item.id!r}: audio holds NaN or infinity; accepted: finite samples")
    words = item.reference.split()
    if not words:
        raise ValueError(f"item {item.id!r}: the reference is empty; accepted: one or more words")
    for word in words:
        if word not in vocabulary:
            raise ValueError(
                f"item {item.id!r}: reference word {word!r} cannot be heard; accepted: {', '.join(vocabulary)}"
            )


def _hear(
    audios: Sequence[np.ndarray], vocabulary: Sequence[str], settings: RecogniserSettings
) -> list[list[HeardWord]]:
    """Runs one worker process over the audios."""
    request = {"words": vocabulary, "settings": dataclasses.asdict(settings), "count": len(audios)}
    arrays = {f"audio_{index}": np.asarray(audio, np.float32) for index, audio in enumerate(audios)}
    message = io.BytesIO()
    np.savez(message, request=np.array(json.dumps(request)), **arrays)  # type: ignore[arg-type]
    root = str(pathlib.Path(recogniser.__file__).parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.run(
        [sys.executable, "-m", "experiments.recogniser"],
        input=message.getvalue(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        check=False,
    )
    if process.returncode:
        reason = process.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        kind, _, text = reason[0].partition(": ")
        if kind == "ValueError":
            raise ValueError(text)
        raise RuntimeError(f"the recogniser's process ended with status {process.returncode}: {reason[0]}")
    return [[HeardWord(*word) for word in said] for said in json.loads(process.stdout)]


def _judgement(item: JudgeItem, heard: Sequence[HeardWord]) -> Judgement:
    said = [word.word for word in heard]
    reference = item.reference.split()
    alignment = jiwer.process_words(" ".join(reference), " ".join(said))
    return Judgement(
        id=item.id,
        reference=" ".join(reference),
        hypothesis=" ".join(said),
        heard=tuple(heard),
        words=len(reference),
        substitutions=alignment.substitutions,
        deletions=alignment.deletions,
        insertions=alignment.insertions,
        repeats=repeated_words(said, reference),
    )
