"""The build: the records of every split, the same bytes for any number of workers."""

import dataclasses
import json

import pytest

from data_pipelines.conversation_shards.dataset import open_conversations
from data_pipelines.rendered_media.builder import build_rendered_media


def test_shards_hold_the_records_whoever_writes_them(config, rendered, tmp_path):
    dataset = build_rendered_media(config, tmp_path / "one", workers=1)
    assert dataset.splits == ("train", "held_out")
    for name, records in rendered.items():
        assert list(dataset.split(name)) == records
    other = build_rendered_media(config, tmp_path / "two", workers=2)
    one, two = (json.loads((built.directory / "checksums.json").read_text()) for built in (dataset, other))
    assert one == two
    open_conversations(tmp_path / "two").verify()
    with pytest.raises(ValueError, match=r"built with rendered_media\.seed = 0, not 1"):
        build_rendered_media(dataclasses.replace(config, seed=1), tmp_path / "one")
