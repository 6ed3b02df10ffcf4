"""How well a Talker speaks in voices that it was never trained on, and as it is told to."""

from collections.abc import Callable, Sequence
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.speech_corpus.builder import Corpus, open_corpus
from experiments.judge import JudgeItem, describe, judge
from experiments.voice.cases import Case, HeldOutVoices, say
from experiments.voice.config import VoicePromptConfig
from experiments.voice.measures import (
    equal_error_rate,
    level_db,
    median_pitch,
    share_less_similar,
    words_per_minute,
)
from experiments.voice.scores import by_voice, conditions, lines, styles, without_nan
from experiments.voice.speaker_encoder import (
    SpeakerEncoder,
    SpeakerEncoderConfig,
    open_speaker_encoder,
    save_speaker_encoder,
    train_speaker_encoder,
)
from qomni_jax.config.from_json import from_json
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.storage.files import read_json
from qomni_jax.talker.storage import open_talker

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
    decoder: str,
    report: Report,
) -> dict[str, Any]:
    """Says sentences in held-out voices and measures them; `data` is the corpus. Returns the record of `--json`.

    `decoder`, one of `cases.DECODERS`, makes sound of codes: the codec's vocoder, or Griffin-Lim on their log-mel,
    which shows what is in the codes.

    The speaker encoder is trained on the corpus' training voices where there is none beside the checkpoint.

    Raises ValueError and OSError with one line that says what is wrong.
    """
    stored = open_talker(checkpoint)
    corpus = open_corpus(data)
    encoder = _encoder(checkpoint.parent / "speaker_encoder", corpus, encoder_steps, report)
    voices = HeldOutVoices(corpus.split(HELD_OUT), stored, _prompts(checkpoint.parent))
    others = OtherVoices(voices, list(corpus.split(TRAINED)), encoder)
    verification = verify(others)
    report(
        f"speaker encoder, natural recordings of {verification['voices']} voices it never heard: equal error rate "
        f"{verification['equal_error_rate']:.1%}; another recording of the voice is more similar than "
        f"{verification['less_similar']['mean']:.1%} of other voices"
    )
    cases = voices.cases(clones, styled)
    report(f"saying {sum(case.is_spoken for case in cases)} sentences")
    waves = say(cases, voices, stored, sampling, decoder)
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
        "decoder": decoder,
        "judge": describe(),
        "speaker_encoder": verification,
        **without_nan(scores),
        "sentences": without_nan(rows),
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
        "less_similar": by_voice(shares),
    }


def _prompts(workdir: Path) -> VoicePromptConfig:
    """Of the stage that left the model."""
    prompts: VoicePromptConfig = from_json(VoicePromptConfig, read_json(workdir / "config.json").get("prompts"))
    return prompts


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
