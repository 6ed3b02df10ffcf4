"""The records of a corpus: what they hold, how they are made, and the worker process that makes a shard of them.

Run as a module it is a worker of `data_pipelines.sharded_builder`.
"""

from collections.abc import Callable, Iterator
import functools
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.serialization import decode_example, encode_example
from data_pipelines.shards import Shard
from data_pipelines.speech_corpus.config import CorpusConfig
from data_pipelines.speech_corpus.espeak import Synthesizer
from data_pipelines.speech_corpus.sentences import draw_utterance
from data_pipelines.workers import serve_shards


@functools.cache
def corpus_features(has_level: bool = False) -> tfds.features.FeaturesDict:
    """The features of an utterance; times in seconds, characters as indices into `text`."""
    level = {"level": tfds.features.Scalar(np.int32, doc="root mean square in dB of full scale")}
    return tfds.features.FeaturesDict(
        {
            **(level if has_level else {}),
            "id": tfds.features.Text(),
            "text": tfds.features.Text(),
            "language": tfds.features.Text(doc="ISO 639-1 code"),
            "voice": tfds.features.Text(doc="espeak-ng voice"),
            "rate_wpm": tfds.features.Scalar(np.int32, doc="nominal words a minute"),
            "pitch": tfds.features.Scalar(np.int32, doc="0 to 99"),
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes", doc="mono"),
            "words": word_features(),
            "phonemes": tfds.features.Sequence({"symbol": tfds.features.Text(), "start_s": np.float32}),
        }
    )


def word_features() -> tfds.features.Sequence:
    """Words as in `espeak.Words`."""
    return tfds.features.Sequence(
        {"char_start": np.int32, "char_end": np.int32, "start_s": np.float32, "end_s": np.float32}
    )


def decode_utterance(record: bytes, has_level: bool = False) -> dict[str, Any]:
    """An utterance as `corpus_features` describes it."""
    return decode_example(corpus_features(has_level), record)


def at_level(audio: np.ndarray, level: float) -> np.ndarray:
    """int16 `[n]` audio with a root mean square of `level` dB of full scale; what would exceed full scale is clipped.

    Digital silence stays as it is.
    """
    samples = audio.astype(np.float64) / 32_768
    root_mean_square = np.sqrt(np.mean(samples**2))
    scaled = samples * (10 ** (level / 20) / root_mean_square) if root_mean_square else samples
    return np.round(np.clip(scaled * 32_768, -32_768, 32_767)).astype(np.int16)


def synthesize_records(config: CorpusConfig, shard: Shard) -> Iterator[tuple[bytes, dict[str, int]]]:
    """The records of a shard with their `num_samples` and `num_chars`. Raises ValueError for what cannot be spoken."""
    split = next(split for split in config.splits if split.name == shard.split)
    synthesizer = Synthesizer.shared()
    for index in range(shard.start, shard.stop):
        utterance = draw_utterance(config, split, index)
        speech = synthesizer.speak(
            utterance.text, utterance.voice, utterance.rate_wpm, utterance.pitch, sample_rate=config.sample_rate
        )
        words, phonemes = speech.words, speech.phonemes
        about, level = dict(vars(utterance)), utterance.level
        if level is None:
            del about["level"]
        example = {
            **about,
            "audio": speech.audio if level is None else at_level(speech.audio, level),
            "words": vars(words),
            "phonemes": {"symbol": phonemes.symbols, "start_s": phonemes.start_s},
        }
        measures = {"num_samples": len(speech.audio), "num_chars": len(utterance.text)}
        yield encode_example(corpus_features(config.has_levels), example), measures


def _start_worker(setup: dict[str, Any]) -> Callable[[Shard, dict[str, Any]], Iterator[tuple[bytes, dict[str, int]]]]:
    config = CorpusConfig.from_dict(setup["config"])
    return lambda shard, _: synthesize_records(config, shard)


if __name__ == "__main__":
    serve_shards(_start_worker)
