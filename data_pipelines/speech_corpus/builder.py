"""The tfds builder of speech corpora: synthesized in parallel, resumable, checksummed."""

import functools
import hashlib
import importlib.metadata
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.records import Dataset
from data_pipelines.sharded_builder import ShardedBuilder, ShardPlan, find_version
from data_pipelines.speech_corpus.config import CorpusConfig, SplitConfig
from data_pipelines.speech_corpus.sentences import draw_utterance, read_sentences
from data_pipelines.speech_corpus.synthesis import corpus_features, decode_utterance

_RECORD_OVERHEAD = 4000  # bytes of a record that are not audio, generously


class SpeechCorpus(ShardedBuilder):
    """Speech synthesized by espeak-ng with its text, word times and phoneme times."""

    def __init__(self, *, corpus: CorpusConfig, data_dir: str | os.PathLike, workers: int | None = None):
        """Raises ValueError if `data_dir` holds this version of the corpus built from another config."""
        self.corpus = corpus
        super().__init__(plan=_plan(corpus), version=corpus.version, data_dir=data_dir, workers=workers)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Speech synthesized by espeak-ng, with word and phoneme times.",
            features=corpus_features(self.corpus.has_levels),
            homepage="https://github.com/espeak-ng/espeak-ng",
            disable_shuffling=True,
        )


class Corpus(Dataset):
    """A built corpus: `config`, `splits`, `split(name)` (records as plain dicts) and `seconds(name)`.

    A record holds `id`, `text`, `language`, `voice` (str), `rate_wpm`, `pitch` (int), `level` (int, where the corpus
    has levels), `audio` (int16 [n] at `config.sample_rate`), `words` (dict of `char_start`, `char_end` int32 [W],
    `start_s`, `end_s` float32 [W]) and `phonemes` (dict of `symbol`, a tuple of P str, and `start_s` float32 [P]).
    """

    def __init__(self, directory: pathlib.Path):
        super().__init__(directory, SpeechCorpus.name, decode_utterance)
        self.config = CorpusConfig.from_dict(self.raw_config["corpus"])
        self._decode = functools.partial(decode_utterance, has_level=self.config.has_levels)

    def seconds(self, name: str) -> np.ndarray:
        """Durations of the utterances of split `name`, float64 [utterances], without reading them."""
        return self.measures(name)["num_samples"] / self.config.sample_rate


def build_corpus(config: CorpusConfig, data_dir: str | os.PathLike, workers: int | None = None) -> Corpus:
    """Builds the corpus in `data_dir` unless it is there, and opens it. `workers` processes, by default one a core.

    Raises ValueError for a place that cannot be written to, too little room, another config in the same place, a source
    without fitting sentences, or a sentence that cannot be spoken.
    """
    builder = SpeechCorpus(corpus=config, data_dir=data_dir, workers=workers)
    builder.download_and_prepare()
    return Corpus(builder.directory)


def open_corpus(data_dir: str | os.PathLike) -> Corpus:
    """Opens the newest version in `data_dir` (or the version directory itself), checking that all its shards are there.

    Raises ValueError if there is no corpus, CorruptShardError for a missing or cut shard.
    """
    directory = find_version(data_dir, SpeechCorpus.name)
    if directory is None:
        raise ValueError(
            f"{data_dir} holds no speech corpus: accepted is what python -m data_pipelines.speech_corpus built"
        )
    return Corpus(directory)


def verify(data_dir: str | os.PathLike) -> None:
    """Reads the whole corpus in `data_dir` and compares its checksums. Raises as `open_corpus`."""
    open_corpus(data_dir).verify()


def _plan(corpus: CorpusConfig) -> ShardPlan:
    splits = {split.name: split for split in corpus.splits}

    def check_splits(names: set[str]) -> None:
        for name in names:
            draw_utterance(corpus, splits[name], 0)  # a source without such sentences fails here, at once

    return ShardPlan(
        made_from=_fingerprint(corpus),
        ignored=("synthesizer",),
        splits={name: split.utterances for name, split in splits.items()},
        per_shard=corpus.utterances_per_shard,
        unit="utterances",
        worker="data_pipelines.speech_corpus.synthesis",
        setup={"config": corpus.as_dict()},
        expected_bytes=lambda shard: len(shard) * _expected_bytes(splits[shard.split], corpus.sample_rate),
        check_splits=check_splits,
    )


def _fingerprint(corpus: CorpusConfig) -> dict[str, Any]:
    paths = sorted({entry.partition("=")[2] for entry in corpus.text_files})
    return {
        "corpus": corpus.as_dict(),
        "text_sha256": {path: hashlib.sha256("\n".join(read_sentences(path)).encode()).hexdigest() for path in paths},
        "synthesizer": f"espeakng_loader {importlib.metadata.version('espeakng_loader')}",
    }


def _expected_bytes(split: SplitConfig, sample_rate: int) -> int:
    # A word of these sources takes 1.1 to 1.3 times what the nominal rate says.
    seconds = 1.5 * (split.min_words + split.max_words) / 2 * 60 / ((split.min_rate + split.max_rate) / 2)
    return round(seconds * sample_rate * 2) + _RECORD_OVERHEAD
