"""What a Thinker hears: greedy answers to recordings of a corpus, their word errors, and how well it keeps time."""

from collections.abc import Sequence
import dataclasses
import difflib
import statistics
from typing import Any

import jax
import jiwer

from data_pipelines.transcription import Spoken, TranscriptionConfig, TranscriptionReader, read_answer, spoken
from experiments.metrics import bootstrap_interval
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.text import TextGenerator
from qomni_jax.layers.language_model import unstack_language_model
from qomni_jax.sequence.special_tokens import IM_END, PADDING
from qomni_jax.thinker import Thinker, place_media
from qomni_jax.thinker.storage import StoredThinker, Tokenizer

_TOKENS_PER_SECOND = 48  # of an answer: more than anybody says
_LEAST_TOKENS = 64
_ROUND_TO = 64


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
    """A Thinker that transcribes. Raises ValueError for one that does not hear."""

    def __init__(
        self,
        stored: StoredThinker,
        params: Any,
        tokenizer: Tokenizer,
        asked: TranscriptionConfig | None = None,
    ):
        if stored.config.audio is None:
            raise ValueError("a Thinker without an audio encoder: accepted is one that hears")
        self._config, self._params, self._tokenizer = stored.config, params, tokenizer
        self._reader = TranscriptionReader(
            tokenizer, stored.features, stored.config.audio, stored.sequence, asked or TranscriptionConfig()
        )
        self._language_model = unstack_language_model(stored.config.language_model, params["language_model"])
        thinker = Thinker(stored.config)
        self._encode = jax.jit(lambda params, media: thinker.apply({"params": params}, media, method=Thinker.encode))

    def listen(self, records: Sequence[dict[str, Any]], batch_size: int) -> list[Spoken]:
        """The greedy answer to each recording; recordings of like length share a batch."""
        order = sorted(range(len(records)), key=lambda index: len(records[index]["audio"]))
        found: dict[int, Spoken] = {}
        for batch in (order[start : start + batch_size] for start in range(0, len(order), batch_size)):
            answers = self._answers([records[index] for index in batch])
            found |= zip(batch, answers, strict=True)
        return [found[index] for index in range(len(records))]

    def _answers(self, records: Sequence[dict[str, Any]]) -> list[Spoken]:
        examples = [self._reader.prompt(record) for record in records]
        media, slots = place_media(examples, self._config)
        prompts = [
            Prompt(example.sequence.tokens, example.sequence.positions, places)
            for example, places in zip(examples, slots, strict=True)
        ]
        seconds = max(len(record["audio"]) for record in records) / self._reader.features.sample_rate
        new = -(-max(_LEAST_TOKENS, int(_TOKENS_PER_SECOND * seconds)) // _ROUND_TO) * _ROUND_TO
        longest = -(-max(len(prompt.tokens) for prompt in prompts) // _ROUND_TO) * _ROUND_TO
        generator = TextGenerator(
            *self._language_model,
            capacity=longest + new,
            stop_tokens=[self._tokenizer.special(IM_END), self._tokenizer.special(PADDING)],
        )
        said = generator.generate(prompts, new, features=self._encode(self._params, media))
        return [read_answer(self._tokenizer.decode(tokens)) for tokens in said]


def score(records: Sequence[dict[str, Any]], answers: Sequence[Spoken]) -> dict[str, Any]:
    """Errors of the answers: the rate with its interval, its parts, the timestamps, and each sentence."""
    heard = [_heard(record, answer) for record, answer in zip(records, answers, strict=True)]
    errors = sorted(error for item in heard for error in item.time_errors)
    words = sum(item.words for item in heard)
    parts = {name: sum(getattr(item, name) for item in heard) for name in ("substitutions", "deletions", "insertions")}
    return {
        "wer": dataclasses.asdict(bootstrap_interval(heard)),
        "words": words,
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
    # A reply that is empty, or not words, is no error of the comparison.
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
        time_errors=[round(error, 3) for error in errors if error == error],  # a word may stand before any time
    )
