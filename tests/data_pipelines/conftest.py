"""A small corpus that the tests of this folder share."""

import pytest

from data_pipelines.speech_corpus.builder import build_corpus
from data_pipelines.speech_corpus.config import CorpusConfig, SplitConfig

VOICES = ("en-us+klatt6", "en-us+f1")


@pytest.fixture(scope="session")
def small_config():
    """Four shards in two splits; one voice is formant-synthesized, the kind that could remember earlier utterances."""
    return CorpusConfig(
        splits=(
            SplitConfig("train", 25, 2, 5, 150, 270, VOICES),
            SplitConfig("test", 6, 2, 4, 150, 270, VOICES, held_out=True),
        ),
        utterances_per_shard=10,
    )


@pytest.fixture(scope="session")
def small_corpus(small_config, tmp_path_factory):
    return build_corpus(small_config, tmp_path_factory.mktemp("corpus"), workers=1)
