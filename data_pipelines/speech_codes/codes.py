"""Writes and opens the codes of a corpus. The codec is the caller's: nothing here imports a model."""

from collections.abc import Callable, Iterator, Sequence
import functools
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.records import Dataset
from data_pipelines.serialization import decode_example, encode_example
from data_pipelines.shards import Shard, Staging, check_same_config, plan_shards, write_shard, writing_to
from data_pipelines.speech_corpus.builder import Corpus
from data_pipelines.speech_corpus.config import CorpusConfig
from data_pipelines.speech_corpus.synthesis import word_features
from data_pipelines.workers import Progress

_NAME = "speech_codes"
_KEPT = ("id", "text", "language", "voice", "rate_wpm", "words")
_KEPT_WITH_LEVEL = ("pitch", "level")

Encode = Callable[[list[np.ndarray]], Sequence[np.ndarray]]


@functools.cache
def codes_features(has_level: bool = False) -> tfds.features.FeaturesDict:
    """The features of an utterance in codes; `codes` is [S, Q], codec frames and codebooks."""
    return tfds.features.FeaturesDict(
        {
            **({name: tfds.features.Scalar(np.int32) for name in _KEPT_WITH_LEVEL} if has_level else {}),
            "id": tfds.features.Text(),
            "text": tfds.features.Text(),
            "language": tfds.features.Text(),
            "voice": tfds.features.Text(),
            "rate_wpm": tfds.features.Scalar(np.int32),
            "codes": tfds.features.Tensor(shape=(None, None), dtype=np.uint16, encoding="bytes"),
            "words": word_features(),
        }
    )


def _decode_codes(record: bytes, has_level: bool = False) -> dict[str, Any]:
    return decode_example(codes_features(has_level), record)


class Codes(Dataset):
    """The codes of a corpus: `splits`, `split(name)` (plain dicts), `lengths(name)`, `codec`, `num_codebooks`.

    A record holds `id`, `text`, `language`, `voice` (str), `rate_wpm` (int), `codes` (uint16 [S, Q]) and `words` (dict
    of `char_start`, `char_end` int32 [W], `start_s`, `end_s` float32 [W]); that of a corpus with levels also `pitch`
    and `level` (int).
    """

    def __init__(self, directory: str | os.PathLike):
        super().__init__(directory, _NAME, _decode_codes)
        self.codec: str = self.raw_config["codec"]
        has_level = CorpusConfig.from_dict(self.raw_config["corpus"]).has_levels
        self._decode = functools.partial(_decode_codes, has_level=has_level)

    @functools.cached_property
    def num_codebooks(self) -> int:
        return int(self.measures(self.splits[0])["num_codebooks"][0])

    def lengths(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Characters of text and codec frames of the records of split `name`, int64 [records] each."""
        measures = self.measures(name)
        return measures["num_chars"], measures["num_frames"]


def open_codes(directory: str | os.PathLike) -> Codes:
    """Opens what `write_codes` wrote, checking that all its shards are there.

    Raises ValueError if there are no codes, CorruptShardError for a missing or cut shard.
    """
    return Codes(directory)


def write_codes(
    corpus: Corpus,
    out_dir: str | os.PathLike,
    encode: Encode,
    *,
    codec: str,
    splits: Sequence[str] | None = None,
    batch_size: int = 32,
    records_per_shard: int = 1000,
) -> Codes:
    """Encodes `splits` of `corpus` (all by default) into `out_dir` unless that is done, and opens the result.

    `encode` maps a list of at most `batch_size` audios of similar length, int16 [n], to their codes, uint16 [S, Q]
    each. `codec` names the codec and its weights: codes of another one in `out_dir` are an error, and shards of an
    interrupted run are kept for the same one only. Raises ValueError for an unknown split, codes of another shape or
    type, another config or codec in `out_dir`, or a place that cannot be written to.
    """
    for name, value in (("batch_size", batch_size), ("records_per_shard", records_per_shard)):
        if value < 1:
            raise ValueError(f"{name} = {value!r}: accepted is a number greater than 0")
    target = pathlib.Path(out_dir).absolute()
    sources = {name: corpus.split(name) for name in (corpus.splits if splits is None else splits)}
    config = {
        "codec": codec,
        "splits": list(sources),
        "records_per_shard": records_per_shard,
        "corpus": corpus.config.as_dict(),
    }
    with writing_to(target):
        occupied = target.exists() and any(target.iterdir())
    if occupied:
        check_same_config(target, config)
        return Codes(target)
    shards = plan_shards(_NAME, {name: len(source) for name, source in sources.items()}, records_per_shard)
    staging = Staging(target, config)
    with staging.locked():
        missing = staging.missing(shards)
        progress = Progress(_NAME, sum(map(len, missing)), "utterances")
        for shard in missing:
            records = _encode_shard(sources[shard.split], shard, encode, batch_size, corpus.config.has_levels)
            write_shard(staging.path, shard, records)
            progress.advance(len(shard))
        staging.publish_target(shards)
    return Codes(target)


def _encode_shard(
    source: Sequence, shard: Shard, encode: Encode, batch_size: int, has_level: bool
) -> Iterator[tuple[bytes, dict]]:
    examples = [source[index] for index in range(shard.start, shard.stop)]
    order = sorted(range(len(examples)), key=lambda index: len(examples[index]["audio"]))
    codes: dict[int, np.ndarray] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        audios = [examples[index]["audio"] for index in batch]
        for index, array in zip(batch, _checked(encode(audios), len(batch)), strict=True):
            codes[index] = array
    kept = _KEPT + _KEPT_WITH_LEVEL * has_level
    for index, example in enumerate(examples):
        array = codes[index]
        record = {**{name: example[name] for name in kept}, "codes": array}
        measures = {"num_chars": len(example["text"]), "num_frames": len(array), "num_codebooks": array.shape[1]}
        yield encode_example(codes_features(has_level), record), measures


def _checked(codes: Sequence[np.ndarray], expected: int) -> list[np.ndarray]:
    arrays = [np.asarray(array) for array in codes]
    if len(arrays) != expected:
        raise ValueError(f"encode gave {len(arrays)} arrays of codes for {expected} audios: accepted is one each")
    for array in arrays:
        if array.dtype != np.uint16 or array.ndim != 2 or not array.size:
            raise ValueError(f"encode gave codes {array.dtype} {array.shape}: accepted is uint16 [frames, codebooks]")
    return arrays
