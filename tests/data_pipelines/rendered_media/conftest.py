"""A few rendered conversations that the tests of this folder share."""

import pytest

from data_pipelines.rendered_media.config import RenderedMediaConfig, SplitConfig
from data_pipelines.rendered_media.rendering import render_record


@pytest.fixture(scope="session")
def config():
    return RenderedMediaConfig(
        splits=(SplitConfig("train", 12, 24), SplitConfig("held_out", 8, 8, held_out=True)),
        side=64,
        records_per_shard=18,
    )


@pytest.fixture(scope="session")
def rendered(config):
    """Every record, by split."""
    return {
        split.name: [render_record(config, split, index) for index in range(split.records)] for split in config.splits
    }
