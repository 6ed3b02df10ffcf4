"""What a Thinker hears: greedy answers to recordings of a corpus, their word errors, and how well it keeps time."""

from collections.abc import Sequence
import dataclasses
import difflib
import math
import statistics
from typing import Any

import jiwer
import numpy as np

from data_pipelines.transcription import Spoken, TranscriptionConfig, TranscriptionReader, read_answer, spoken
from experiments.metrics import bootstrap_interval
from experiments.thinker.answers import Answerer
from qomni_jax.thinker.storage import StoredThinker, Tokenizer

_TOKENS_PER_SECOND = 48  # of an answer: more than anybody says
_LEAST_TOKENS = 64
_LEAST_SECONDS = 0.16  # a token: nothing is heard in less, and a passage goes on by no less


@dataclasses.dataclass(frozen=True)
class Heard:
    """One sentence and its errors (`metrics.Scored`); `time_errors`: seconds, of each word heard right."""

    id: str
    reference: str
    hypothesis: str
    words: int
    substitutions: int
    deletions: int
    insertions: int
    time_errors: list[float]


class Listener:
    """A Thinker that transcribes. Raises ValueError for one that does not hear.

    `window`: seconds that it hears at a time, where a recording is longer; None: all of it at once.
    """

    def __init__(
        self,
        stored: StoredThinker,
        params: Any,
        tokenizer: Tokenizer,
        window: float | None = None,
        asked: TranscriptionConfig | None = None,
    ):
        if stored.config.audio is None:
            raise ValueError("a Thinker without an audio encoder: accepted is one that hears")
        asked = asked or TranscriptionConfig()
        self._reader = TranscriptionReader(tokenizer, stored.features, stored.config.audio, stored.sequence, asked)
        self._answerer = Answerer(stored, params, tokenizer)
        self._window = window

    def listen(self, recordings: Sequence[np.ndarray], batch_size: int) -> list[Spoken]:
        """What is said in each recording, int16 or float `[n]`."""
        rate = self._reader.features.sample_rate
        passages = [Passage(len(audio) / rate, self._window) for audio in recordings]
        while waiting := [number for number, passage in enumerate(passages) if not passage.done]:
            pieces = []
            for number in waiting:
                start, end = passages[number].piece
                pieces.append(recordings[number][round(start * rate) : round(end * rate)])
            for number, answer in zip(waiting, self._hear(pieces, batch_size), strict=True):
                passages[number].hear(answer)
        return [passage.said for passage in passages]

    def _hear(self, recordings: Sequence[np.ndarray], batch_size: int) -> list[Spoken]:
        """The answer to each recording; those of like length share a batch."""
        order = sorted(range(len(recordings)), key=lambda index: len(recordings[index]))
        found: dict[int, Spoken] = {}
        for batch in (order[start : start + batch_size] for start in range(0, len(order), batch_size)):
            seconds = len(recordings[batch[-1]]) / self._reader.features.sample_rate
            examples = [self._reader.prompt(recordings[index]) for index in batch]
            answers = self._answerer.answer(examples, max(_LEAST_TOKENS, int(_TOKENS_PER_SECOND * seconds)))
            found |= zip(batch, map(read_answer, answers), strict=True)
        return [found[index] for index in range(len(recordings))]


class Passage:
    """A recording of `seconds` that is heard `window` seconds at a time: by its own timestamps it goes on from the last
    word of a piece, which may have been cut, and hears that one again.

    Source: as Whisper transcribes long recordings, with times of words.
    """

    def __init__(self, seconds: float, window: float | None):
        self._seconds, self._window, self._start = seconds, window or seconds, 0.0
        self.said, self.done = Spoken([], []), False
        self._expected: str | None = None  # the word that the next piece begins with

    @property
    def piece(self) -> tuple[float, float]:
        """What is to be heard next: start and end in seconds."""
        return self._start, min(self._start + self._window, self._seconds)

    def hear(self, answer: Spoken) -> None:
        """Takes what was heard in that piece."""
        start, end = self.piece
        words, times = self._without_tail(answer)
        self.done = end >= self._seconds - _LEAST_SECONDS
        keep, step = len(words), self._window
        if not self.done and times and times[-1] >= _LEAST_SECONDS:  # not so for NaN, a word without a time
            keep, step = len(words) - 1, times[-1]
        self._expected = words[keep] if keep < len(words) else None
        self.said.words.extend(words[:keep])
        self.said.starts.extend(start + time for time in times[:keep])
        self._start = start + step

    def _without_tail(self, answer: Spoken) -> Spoken:
        """The answer without the end of the word before, where a timestamp was too early: that word is written again,
        and then the one that the piece was to begin with."""
        words, times = answer
        tail = self._expected is not None and words[:1] == self.said.words[-1:] and words[1:2] == [self._expected]
        return Spoken(words[1:], times[1:]) if tail else answer


def score(records: Sequence[dict[str, Any]], answers: Sequence[Spoken]) -> dict[str, Any]:
    """Errors of the answers: the rate with its interval, its parts, the timestamps, and each sentence."""
    heard = [_heard(record, answer) for record, answer in zip(records, answers, strict=True)]
    errors = sorted(error for item in heard for error in item.time_errors)
    parts = {name: sum(getattr(item, name) for item in heard) for name in ("substitutions", "deletions", "insertions")}
    return {
        "wer": dataclasses.asdict(bootstrap_interval(heard)),
        "words": sum(item.words for item in heard),
        **parts,
        "timestamp_median_error": statistics.median(errors) if errors else None,
        "timestamp_p90_error": errors[int(0.9 * (len(errors) - 1))] if errors else None,
        "timestamps": len(errors),
        "sentences": [dataclasses.asdict(item) for item in heard],
    }


def describe(name: str, figures: dict[str, Any]) -> str:
    """One line for people."""
    wer = figures["wer"]
    text = (
        f"{name:12s} WER {wer['mean']:6.1%} ({wer['low']:.1%}-{wer['high']:.1%}) of {figures['words']} words: "
        f"{figures['substitutions']} wrong, {figures['deletions']} left out, {figures['insertions']} put in"
    )
    if figures["timestamp_median_error"] is not None:
        text += (
            f"; times of {figures['timestamps']} words: median error {figures['timestamp_median_error']:.2f} s, "
            f"9 of 10 within {figures['timestamp_p90_error']:.2f} s"
        )
    return text


def _heard(record: dict[str, Any], answer: Spoken) -> Heard:
    truth = spoken(record)
    alignment = jiwer.process_words(record["text"], " ".join(answer.words))
    matches = difflib.SequenceMatcher(None, truth.words, answer.words, autojunk=False).get_matching_blocks()
    errors = [
        abs(truth.starts[match.a + offset] - answer.starts[match.b + offset])
        for match in matches
        for offset in range(match.size)
    ]
    return Heard(
        id=record["id"],
        reference=record["text"],
        hypothesis=" ".join(answer.words),
        words=len(truth.words),
        substitutions=alignment.substitutions,
        deletions=alignment.deletions,
        insertions=alignment.insertions,
        time_errors=[round(error, 3) for error in errors if not math.isnan(error)],  # a word may stand before any time
    )
