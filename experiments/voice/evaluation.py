"""How well a Talker speaks in voices that it was never trained on, and as it is told to."""

from collections.abc import Callable, Sequence
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.speech_corpus.builder import Corpus, open_corpus
from experiments.judge import JudgeItem, describe, judge
from experiments.metrics import bootstrap_interval, bootstrap_mean
from experiments.voice.cases import Case, HeldOutVoices, say
from experiments.voice.measures import (
    equal_error_rate,
    level_db,
    median_pitch,
    share_less_similar,
    words_per_minute,
)
from experiments.voice.speaker_encoder import (
    SpeakerEncoder,
    SpeakerEncoderConfig,
    open_speaker_encoder,
    save_speaker_encoder,
    train_speaker_encoder,
)
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.talker.storage import open_talker
from qomni_jax.talker.style import OPPOSITES

Report = Callable[[str], None]
HELD_OUT, TRAINED = "test_voices", "test_sentences"


def evaluate(
    checkpoint: Path,
    data: Path,
    sampling: SamplingConfig,
    *,
    clones: int,
    styled: int,
    encoder_steps: int,
    report: Report,
) -> dict[str, Any]:
    """Says sentences in held-out voices and measures them; `data` is the corpus. Returns the record of `--json`.

    The speaker encoder is trained on the corpus' training voices where there is none beside the checkpoint.

    Raises ValueError and OSError with one line that says what is wrong.
    """
    stored = open_talker(checkpoint)
    corpus = open_corpus(data)
    encoder = _encoder(checkpoint.parent / "speaker_encoder", corpus, encoder_steps, report)
    voices = HeldOutVoices(corpus.split(HELD_OUT), stored)
    others = OtherVoices(voices, list(corpus.split(TRAINED)), encoder)
    verification = verify(others)
    report(
        f"speaker encoder, natural recordings of {verification['voices']} voices it never heard: equal error rate "
        f"{verification['equal_error_rate']:.1%}; another recording of the voice is more similar than "
        f"{verification['less_similar']['mean']:.1%} of other voices"
    )
    cases = voices.cases(clones, styled)
    report(f"saying {sum(case.is_spoken for case in cases)} sentences")
    waves = say(cases, voices, stored, sampling)
    report("listening")
    rate = stored.codec.config.sample_rate
    items = [
        JudgeItem(str(number), wave, voices.records[case.target]["text"])
        for number, (case, wave) in enumerate(zip(cases, waves, strict=True))
    ]
    judged = judge(items, workers=1)
    embeddings = encoder.embed(waves)
    rows = []
    for case, wave, heard, embedding in zip(cases, waves, judged, embeddings, strict=True):
        own, every = others.around(case)
        held_out = every[others.is_held_out[others.names != voices.records[case.target]["voice"]]]
        rows.append(
            {
                **dataclasses.asdict(case),
                "voice": voices.records[case.target]["voice"],
                "text": heard.reference,
                "heard": heard.hypothesis,
                **{name: getattr(heard, name) for name in ("words", "substitutions", "deletions", "insertions")},
                "similarity": float(embedding @ own),
                "less_similar": share_less_similar(embedding, own, every),
                "less_similar_held_out": share_less_similar(embedding, own, held_out),
                "rate": words_per_minute(heard.heard),
                "pitch": median_pitch(wave, rate),
                "level": level_db(wave),
            }
        )
    scores = {"conditions": conditions(rows), "styles": styles(rows)}
    for line in lines(scores):
        report(line)
    return {
        "task": "voice",
        "checkpoint": str(checkpoint),
        "sampling": dataclasses.asdict(sampling),
        "judge": describe(),
        "speaker_encoder": verification,
        **scores,
        "sentences": rows,
    }


class OtherVoices:
    """One recording of every voice there is, spoken as much as possible like a reference: those to be told apart from
    it, held-out voices and trained ones."""

    def __init__(self, voices: HeldOutVoices, trained: Sequence[dict[str, Any]], encoder: SpeakerEncoder):
        self._voices = voices
        records = [*voices.records, *trained]
        self.embeddings = encoder.embed([record["audio"] for record in records])
        self.voice_of = np.array([record["voice"] for record in records])
        self.names = np.array(list(dict.fromkeys(self.voice_of)))
        self.is_held_out = np.isin(self.names, list(voices.examples.members))
        self.styles = np.array([[record[name] for name in ("rate_wpm", "pitch", "level")] for record in records], float)
        self._scale = np.ptp(self.styles, axis=0)

    def around(self, case: Case) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of the reference `[D]` and of the other voices `[voices - 1, D]`, in the order of `names`."""
        reference = list(case.reference)
        own = self.embeddings[reference].mean(axis=0)
        style = self.styles[reference].mean(axis=0)
        voice = self.voice_of[case.target]
        return own / np.linalg.norm(own), self.nearest(style, str(voice))

    def nearest(self, style: np.ndarray, voice: str) -> np.ndarray:
        """Of every voice but this one, the embedding of the recording nearest in rate, pitch and level."""
        distances = np.abs((self.styles - style) / self._scale).sum(axis=1)
        chosen = [
            members[np.argmin(distances[members])]
            for members in (np.flatnonzero(self.voice_of == name) for name in self.names if name != voice)
        ]
        return self.embeddings[chosen]


def verify(others: OtherVoices) -> dict[str, Any]:
    """What the encoder can do, on natural recordings of held-out voices: the equal error rate over all pairs of
    recordings, and the share of other voices less similar to a recording than another of its voice is."""
    held_out = np.isin(others.voice_of, others.names[others.is_held_out])
    vectors, names = others.embeddings[held_out], others.voice_of[held_out]
    similarity = vectors @ vectors.T
    same = names[:, None] == names[None]
    pairs = np.triu(np.ones_like(same), 1)
    shares: dict[str, list[float]] = {}
    for index, name in enumerate(names):
        fellows = np.flatnonzero((names == name) & (np.arange(len(names)) != index))
        other = fellows[index % len(fellows)]
        rest = others.nearest(others.styles[held_out][index], str(name))
        shares.setdefault(str(name), []).append(share_less_similar(vectors[other], vectors[index], rest))
    return {
        "voices": len(shares),
        "equal_error_rate": equal_error_rate(similarity[pairs & same], similarity[pairs & ~same]),
        "less_similar": _by_voice(shares),
    }


def conditions(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Word errors and likeness in every way of saying."""
    found = {}
    for name in dict.fromkeys(row["condition"] for row in rows):
        own = [row for row in rows if row["condition"] == name]
        found[name] = {
            "sentences": len(own),
            "wer": dataclasses.asdict(bootstrap_interval([_Errors.of(r) for r in own])),
        }
        for measure in ("similarity", "less_similar", "less_similar_held_out"):
            shares: dict[str, list[float]] = {}
            for row in own:
                shares.setdefault(row["voice"], []).append(row[measure])
            found[name][measure] = _by_voice(shares)
    return found


def styles(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """In what share of cases a described attribute moves as it is told to: between its two words, and by each word from
    the same sentence without it (with a reference: the clone). NaN does not count as moved."""
    plain = {
        (row["target"], row["has_reference"]): row for row in rows if not row["style"] and row["condition"] != "natural"
    }
    found: dict[str, Any] = {}
    for condition in dict.fromkeys(row["condition"] for row in rows if row["style"]):
        said = {(row["target"], row["style"]): row for row in rows if row["condition"] == condition}
        targets = list(dict.fromkeys(target for target, _ in said))
        for attribute, (less, more) in OPPOSITES.items():
            pairs = [(said[t, less][attribute], said[t, more][attribute]) for t in targets]
            entry: dict[str, Any] = {
                "cases": len(pairs),
                "opposites": dataclasses.asdict(bootstrap_mean([float(low < high) for low, high in pairs])),
                less: float(np.nanmedian([low for low, _ in pairs])),
                more: float(np.nanmedian([high for _, high in pairs])),
            }
            if all((t, True) in plain for t in targets) and condition != "style":
                moved = {
                    less: [float(low < plain[t, True][attribute]) for t, (low, _) in zip(targets, pairs, strict=True)],
                    more: [
                        float(high > plain[t, True][attribute]) for t, (_, high) in zip(targets, pairs, strict=True)
                    ],
                }
                entry["from_clone"] = {w: dataclasses.asdict(bootstrap_mean(v)) for w, v in moved.items()}
            found.setdefault(condition, {})[attribute] = entry
    return found


def lines(scores: dict[str, Any]) -> list[str]:
    """For people."""
    text = []
    for name, figures in scores["conditions"].items():
        wer, every, held_out = (figures[key] for key in ("wer", "less_similar", "less_similar_held_out"))
        text.append(
            f"{name:18s} {figures['sentences']:4d} sentences: WER {_percent(wer)}; closer to the reference than to "
            f"{_percent(every)} of other voices ({_percent(held_out)} of held-out ones); "
            f"similarity {figures['similarity']['mean']:.2f}"
        )
    for condition, attributes in scores["styles"].items():
        for attribute, figures in attributes.items():
            less, more = OPPOSITES[attribute]
            line = (
                f"{condition:18s} {attribute}: {less} {figures[less]:.1f}, {more} {figures[more]:.1f} (medians); "
                f"in the right order in {_percent(figures['opposites'])} of {figures['cases']}"
            )
            for word, moved in figures.get("from_clone", {}).items():
                line += f"; {word} against the clone {_percent(moved)}"
            text.append(line)
    return text


@dataclasses.dataclass(frozen=True)
class _Errors:
    """`metrics.Scored`."""

    id: int
    words: int
    substitutions: int
    deletions: int
    insertions: int

    @classmethod
    def of(cls, row: dict[str, Any]) -> "_Errors":
        counts = (row[name] for name in ("words", "substitutions", "deletions", "insertions"))
        return cls(row["target"], *counts)


def _by_voice(values: dict[str, list[float]]) -> dict[str, float]:
    """The mean over voices, with an interval from drawing voices: sentences of one voice are not independent."""
    return dataclasses.asdict(bootstrap_mean([float(np.mean(own)) for own in values.values()]))


def _percent(interval: dict[str, float]) -> str:
    return f"{interval['mean']:.1%} [{interval['low']:.1%}, {interval['high']:.1%}]"


def _encoder(directory: Path, corpus: Corpus, steps: int, report: Report) -> SpeakerEncoder:
    if directory.exists():
        return open_speaker_encoder(directory)
    source = corpus.split("train")
    names = sorted({voice for split in corpus.config.splits if split.name == "train" for voice in split.voices})
    config = SpeakerEncoderConfig(voices=len(names), steps=steps)
    report(f"training a speaker encoder on {len(names)} voices")
    chosen = np.linspace(0, len(source) - 1, min(config.utterances, len(source))).astype(int)
    records = [source[int(index)] for index in chosen]
    encoder = train_speaker_encoder(
        [record["audio"] for record in records], [names.index(record["voice"]) for record in records], config
    )
    save_speaker_encoder(directory, encoder)
    return encoder
