"""What every arm shares: corpus, codec, codes, tokenizers, and the gates they must pass first."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import json
from pathlib import Path
import time
from typing import Any

import numpy as np
import pystoi

from data_pipelines.speech_codes.codes import Codes, open_codes
from data_pipelines.speech_corpus.builder import Corpus, build_corpus
from experiments.corpus_codec import USAGE_FILE, corpus_codes, fitted_codec
from experiments.files import write_atomically
from experiments.judge import JudgeItem, describe, judge
from experiments.metrics import word_error_rate
from experiments.study.config import StudyConfig
from experiments.study.items import judged_item, write_wav
from qomni_jax.codec import Codec, griffin_lim
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.talker.prompt import prompt_tokens

Report = Callable[[str], None]


class GateError(ValueError):
    """Judge or codec are not good enough for a study to mean anything."""


@dataclasses.dataclass(frozen=True, eq=False)
class Materials:
    """What the arms work with."""

    codec: Codec
    codes: Codes

    def tokenizer(self, workdir: Path, vocab_size: int) -> TextTokenizer:
        """The BPE of `vocab_size` ids trained on the training split, made once."""
        path = workdir / "tokenizers" / f"{vocab_size}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            split = self.codes.split("train")
            voices = sorted({record["voice"] for record in split})
            tokenizer = TextTokenizer.train((record["text"] for record in split), vocab_size, prompt_tokens(voices))
            tokenizer.save(path)
        return TextTokenizer.load(path)


def prepare(config: StudyConfig, workdir: Path, report: Report, seconds: dict[str, float]) -> Materials:
    """Makes, or finds made, all materials in `workdir`; adds the wall time of each stage to `seconds`.

    Raises GateError when judge or codec fail a gate, ValueError or OSError naming what is wrong with a directory.
    """
    with _timed(seconds, "corpus"):
        corpus = build_corpus(config.corpus, workdir / "corpus")
    with _timed(seconds, "codec"):
        codec = fitted_codec(corpus, config.codec, config.codec_training, workdir, report)
    with _timed(seconds, "ceiling"):
        measure_ceiling(config, corpus, codec, workdir, report)
    with _timed(seconds, "codes"):
        codes = corpus_codes(corpus, codec, workdir)
    materials = Materials(codec, codes)
    for vocab_size in {arm.vocab_size or config.vocab_size for arm in config.arms}:
        materials.tokenizer(workdir, vocab_size)
    return materials


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[name] = time.monotonic() - began


def open_materials(workdir: Path) -> Materials:
    """The materials that `prepare` made."""
    return Materials(Codec.load(workdir / "codec"), open_codes(workdir / "codes"))


def measure_ceiling(config: StudyConfig, corpus: Corpus, codec: Codec, workdir: Path, report: Report) -> dict[str, Any]:
    """Judges the clean test recordings and their resynthesis: what no Talker can beat. Written once, then gated."""
    path = workdir / "results" / "ceiling.json"
    if not path.exists():
        report("judging clean recordings and codec resynthesis")
        ceiling = _measure(config, corpus, codec, workdir)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(ceiling, indent=1))
    ceiling = json.loads(path.read_text())
    _gate(config, ceiling, report)
    return ceiling


def _measure(config: StudyConfig, corpus: Corpus, codec: Codec, workdir: Path) -> dict[str, Any]:
    versions: dict[str, dict[str, list[dict[str, Any]]]] = {"clean": {}, "resynthesis": {}, "griffin_lim": {}}
    stoi: dict[str, float] = {}
    rate = codec.config.log_mel.sample_rate
    for name in config.evaluation.sets:
        records = list(corpus.split(f"test_{name}"))
        clean = [record["audio"].astype(np.float32) / 32_768 for record in records]
        codes = codec.encode_audio([record["audio"] for record in records])
        waves = {"clean": clean, "resynthesis": codec.decode_codes(codes)}
        if name == "short":  # the gates' set, on which the fallback decoder is compared
            waves["griffin_lim"] = [griffin_lim(codec.decode_mel(item), codec.config.log_mel) for item in codes]
            stoi["decoder"] = _mean_stoi(clean, waves["resynthesis"], rate)
            stoi["griffin_lim"] = _mean_stoi(clean, waves["griffin_lim"], rate)
        players = config.evaluation.players if name in config.evaluation.player_sets else 0
        for version, audio in waves.items():
            items = [JudgeItem(r["id"], w, r["text"]) for r, w in zip(records, audio, strict=True)]
            rows: list[dict[str, Any]] = []
            for judgement, wave, source in zip(judge(items, workers=config.workers), audio, clean, strict=True):
                wav = f"wavs/{version}/{judgement.id}.wav" if len(rows) < players else None
                if wav:
                    write_wav(workdir / wav, wave, rate)
                seconds, reference_seconds = len(wave) / rate, len(source) / rate
                rows.append(judged_item(judgement, seconds=seconds, reference_seconds=reference_seconds, wav=wav))
            versions[version][name] = rows
    usage = workdir / USAGE_FILE
    splits = {split: float(corpus.seconds(split).sum() / 3600) for split in corpus.splits}
    return {
        "judge": describe(),
        **versions,
        "stoi": stoi,
        "codec": {
            "frame_rate_hz": rate / codec.config.samples_per_frame,
            "codebooks": codec.config.rvq.num_codebooks,
            "codebook_size": codec.config.rvq.codebook_size,
            "usage": json.loads(usage.read_text()) if usage.exists() else [],
        },
        "corpus": {
            "hours": sum(splits.values()),
            "utterances": sum(len(corpus.split(split)) for split in corpus.splits),
            "hours_by_split": splits,
        },
    }


def _mean_stoi(clean: Sequence[np.ndarray], decoded: Sequence[np.ndarray], rate: int) -> float:
    pairs = ((source, wave, min(len(source), len(wave))) for source, wave in zip(clean, decoded, strict=True))
    return float(np.mean([pystoi.stoi(source[:length], wave[:length], rate) for source, wave, length in pairs]))


def _gate(config: StudyConfig, ceiling: dict[str, Any], report: Report) -> None:
    clean, resynthesis = (word_error_rate(_scored(ceiling[name]["short"])) for name in ("clean", "resynthesis"))
    stoi = ceiling["stoi"]["decoder"]
    report(f"judge: clean WER {clean:.1%}; codec: resynthesis WER {resynthesis:.1%}, STOI {stoi:.3f}")
    for value, limit, what, higher in (
        (clean, config.max_clean_wer, "the judge's word error rate on clean recordings", False),
        (resynthesis, config.max_resynthesis_wer, "the word error rate of codec resynthesis", False),
        (stoi, config.min_stoi, "the STOI of codec resynthesis", True),
    ):
        if value < limit if higher else value > limit:
            bound = f"{limit:.3f} or {'more' if higher else 'less'}"
            raise GateError(f"{what} is {value:.3f}, accepted is {bound}: no Talker was trained")


def _scored(rows: list[dict[str, Any]]) -> list[Any]:
    return [_Row(**{field.name: row[field.name] for field in dataclasses.fields(_Row)}) for row in rows]


@dataclasses.dataclass(frozen=True)
class _Row:
    id: str
    words: int
    substitutions: int
    deletions: int
    insertions: int
