"""Configurations survive JSON."""

import dataclasses
import json

import pytest

from qomni_jax import sizes
from qomni_jax.config.from_json import from_json
from qomni_jax.config.thinker import ThinkerConfig


@pytest.mark.parametrize("size", ["thinker_tiny", "thinker_plus", "qwen3_omni_thinker"])
def test_a_config_comes_back_equal(size):
    config = getattr(sizes, size)()
    assert from_json(ThinkerConfig, json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_absent_fields_have_their_defaults():
    text = dataclasses.asdict(sizes.thinker_tiny())
    del text["vision"], text["language_model"]["router_aux_weight"]
    config = from_json(ThinkerConfig, text)
    assert config.vision is None
    assert config.language_model == sizes.thinker_tiny().language_model
