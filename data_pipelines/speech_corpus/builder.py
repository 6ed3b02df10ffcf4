"""The tfds builder of speech corpora: synthesized in parallel, resumable, checksummed."""

import dataclasses
import hashlib
import importlib.metadata
import os
import pathlib
import types
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_builder, naming

from data_pipelines.records import Dataset
from data_pipelines.shards import CONFIG_FILE, Shard, Staging, check_same_config, plan_shards, writing_to
from data_pipelines.speech_corpus.config import CorpusConfig, SplitConfig
from data_pipelines.speech_corpus.sentences import draw_utterance, read_sentences
from data_pipelines.speech_corpus.synthesis import corpus_features, decode_utterance
from data_pipelines.workers import Progress, run_tasks

_WORKER_MODULE = "data_pipelines.speech_corpus.synthesis"
_RECORD_OVERHEAD = 4000  # bytes of a record that are not audio, generously


class SpeechCorpus(dataset_builder.FileReaderBuilder):
    """Speech synthesized by espeak-ng with its text, word times and phoneme times.

    `download_and_prepare` writes `DATA_DIR/speech_corpus/VERSION` once; run again after an interruption it writes the
    missing shards only. The result does not depend on the number of workers, and is an ordinary tfds dataset:
    `tfds.builder_from_directory(directory).as_data_source("train")` reads it too.
    """

    VERSION = tfds.core.Version("1.0.0")  # each builder has its config's
    code_path = None  # nothing is downloaded, so tfds need not look for lists of addresses beside the code

    def __init__(self, *, corpus: CorpusConfig, data_dir: str | os.PathLike, workers: int | None = None):
        """Raises ValueError if `data_dir` holds this version of the corpus built from another config."""
        if workers is not None and workers < 1:
            raise ValueError(f"workers = {workers!r}: accepted is a number greater than 0, or None for one a core")
        self.corpus = corpus
        self.workers = workers or os.cpu_count() or 1
        self.VERSION = tfds.core.Version(corpus.version)
        super().__init__(data_dir=os.fspath(data_dir), file_format=tfds.core.FileFormat.ARRAY_RECORD)
        self.directory = pathlib.Path(self.data_path)
        self._fingerprint = _fingerprint(corpus)
        if self.directory.exists():
            check_same_config(self.directory, self._fingerprint, ignored=("synthesizer",))

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Speech synthesized by espeak-ng, with word and phoneme times.",
            features=corpus_features(),
            homepage="https://github.com/espeak-ng/espeak-ng",
            disable_shuffling=True,
        )

    def download_and_prepare(self, **kwargs) -> None:
        """Builds the corpus unless it is there. Raises ValueError for a place it cannot be written to."""
        if self.directory.exists():
            return
        staging = Staging(self.directory, self._fingerprint)
        with staging.locked():
            self._write_missing(staging)
            with writing_to(self.directory):
                super().download_and_prepare(**kwargs)

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        # Called by tfds with `data_path` set to a temporary directory that it renames afterwards.
        staging, shards = Staging(self.directory, self._fingerprint), self._shards()
        sizes = {shard: staging.noted(shard)["bytes"] for shard in shards}
        staging.publish(shards, pathlib.Path(self.data_path))
        template = naming.ShardedFileTemplate(
            dataset_name=self.name, data_dir=self.data_path, filetype_suffix="array_record"
        )
        infos = []
        for split in self.corpus.splits:
            own = [shard for shard in shards if shard.split == split.name]
            size = sum(sizes[shard] for shard in own)
            infos.append(tfds.core.SplitInfo(split.name, [len(shard) for shard in own], size, template))
        self.info.set_splits(tfds.core.SplitDict(infos))

    def _make_download_manager(self, **_) -> types.SimpleNamespace:
        return types.SimpleNamespace(downloaded_size=0)  # tfds's own would make directories for downloads

    def _log_download_bytes(self) -> None:
        """Says nothing: nothing is downloaded."""

    def _log_download_done(self) -> None:
        """Says nothing: nothing is downloaded."""

    def _shards(self) -> list[Shard]:
        sizes = {split.name: split.utterances for split in self.corpus.splits}
        return plan_shards(self.name, sizes, self.corpus.utterances_per_shard)

    def _write_missing(self, staging: Staging) -> None:
        missing = staging.missing(self._shards())
        if not missing:
            return
        splits = {split.name: split for split in self.corpus.splits}
        for name in {shard.split for shard in missing}:
            draw_utterance(self.corpus, splits[name], 0)  # a source without such sentences fails here, at once
        # Longest first, so that no worker is left alone with a long one.
        rate = self.corpus.sample_rate
        missing.sort(key=lambda shard: -len(shard) * _expected_bytes(splits[shard.split], rate))
        sizes = [len(shard) * _expected_bytes(splits[shard.split], rate) for shard in missing]
        staging.check_space(sum(sizes))
        progress = Progress(self.name, sum(map(len, missing)), "utterances", work=sum(sizes))
        setup = {"config": dataclasses.asdict(self.corpus), "staging": str(staging.path)}
        tasks = [dataclasses.asdict(shard) for shard in missing]
        run_tasks(_WORKER_MODULE, setup, tasks, self.workers, lambda i: progress.advance(len(missing[i]), sizes[i]))


class Corpus(Dataset):
    """A built corpus: `config`, `splits`, `split(name)` (records as plain dicts) and `seconds(name)`.

    A record holds `id`, `text`, `language`, `voice` (str), `rate_wpm`, `pitch` (int), `audio` (int16 [n] at
    `config.sample_rate`), `words` (dict of `char_start`, `char_end` int32 [W], `start_s`, `end_s` float32 [W]) and
    `phonemes` (dict of `symbol`, a tuple of P str, and `start_s` float32 [P]).
    """

    def __init__(self, directory: pathlib.Path):
        super().__init__(directory, SpeechCorpus.name, decode_utterance)
        self.config = CorpusConfig.from_dict(self.raw_config["corpus"])

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
    directory = pathlib.Path(data_dir)
    if not (directory / CONFIG_FILE).is_file():
        found = [path.parent for path in directory.glob(f"{SpeechCorpus.name}/*/{CONFIG_FILE}")]
        versions = [path for path in found if tfds.core.Version.is_valid(path.name)]
        if not versions:
            raise ValueError(
                f"{directory} holds no speech corpus: accepted is what python -m data_pipelines.speech_corpus built"
            )
        directory = max(versions, key=lambda path: tfds.core.Version(path.name))
    return Corpus(directory)


def verify(data_dir: str | os.PathLike) -> None:
    """Reads the whole corpus in `data_dir` and compares its checksums. Raises as `open_corpus`."""
    open_corpus(data_dir).verify()


def _fingerprint(corpus: CorpusConfig) -> dict[str, Any]:
    paths = sorted({entry.partition("=")[2] for entry in corpus.text_files})
    return {
        "corpus": dataclasses.asdict(corpus),
        "text_sha256": {path: hashlib.sha256("\n".join(read_sentences(path)).encode()).hexdigest() for path in paths},
        "synthesizer": f"espeakng_loader {importlib.metadata.version('espeakng_loader')}",
    }


def _expected_bytes(split: SplitConfig, sample_rate: int) -> int:
    # A word of these sources takes 1.1 to 1.3 times what the nominal rate says.
    seconds = 1.5 * (split.min_words + split.max_words) / 2 * 60 / ((split.min_rate + split.max_rate) / 2)
    return round(seconds * sample_rate * 2) + _RECORD_OVERHEAD
