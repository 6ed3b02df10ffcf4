"""The codec that is fitted on a corpus, and the corpus in its codes, each made once in a workdir."""

from collections.abc import Callable
import hashlib
import json
from pathlib import Path

import numpy as np

from data_pipelines.speech_codes.codes import Codes, write_codes
from data_pipelines.speech_corpus.builder import Corpus
from experiments.files import write_atomically
from qomni_jax.codec import Codec
from qomni_jax.codec.training import fit
from qomni_jax.config.codec import CodecConfig, CodecTrainingConfig

USAGE_FILE = Path("codec_training") / "usage.json"


def fitted_codec(
    corpus: Corpus, config: CodecConfig, training: CodecTrainingConfig, workdir: Path, report: Callable[[str], None]
) -> Codec:
    """The codec fitted on the corpus' split `train`; an interrupted fit goes on."""
    directory = workdir / "codec"
    if (directory / "config.json").exists():
        return Codec.load(directory, config)
    split = corpus.split("train")
    recordings = [split[index]["audio"] for index in range(min(training.utterances, len(split)))]
    result = fit(recordings, config, training, workdir / "codec_training", report)
    write_atomically(workdir / USAGE_FILE, json.dumps(result.usage))
    result.codec.save(directory)
    return result.codec


def corpus_codes(corpus: Corpus, codec: Codec, workdir: Path) -> Codes:
    """All splits in codes. They are named by the codebooks: those of another codec are not taken for these."""
    digest = hashlib.sha256(np.asarray(codec.params["rvq"]["codebooks"]).tobytes()).hexdigest()[:16]
    return write_codes(corpus, workdir / "codes", codec.encode_audio, codec=digest)
