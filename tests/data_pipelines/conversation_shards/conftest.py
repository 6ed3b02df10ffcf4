"""A JSON Lines file and its shards that the tests of this folder share."""

import pytest

from data_pipelines.conversation_shards.jsonl import pack_conversations
from tests.data_pipelines.conversation_shards.jsonl_files import write_source


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def dataset(source, tmp_path_factory):
    return pack_conversations(source, tmp_path_factory.mktemp("shards"), records_per_shard=2, workers=1)
