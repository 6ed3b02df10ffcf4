"""A Thinker of the system's own kind on disk, for the tests: tiny, random, with a tokenizer."""

import dataclasses
import pathlib

import numpy as np

from qomni_jax.config.audio import AudioFeatureConfig
from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.config.vision import ImageConfig
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sizes import thinker_tiny
from qomni_jax.storage.arrays import nested
from qomni_jax.thinker.storage import StoredThinker, parameter_shapes, save_thinker

TOKENIZER = ChatTokenizer.train(["what is in this picture? what was said?"] * 3, 300)


def own_stored() -> StoredThinker:
    """Two layers, both encoders, the system's own layout with a timestamp every half second."""
    config = thinker_tiny(TOKENIZER.vocab_size)
    language_model = config.language_model
    decoder = dataclasses.replace(language_model.decoder, periods=1, pattern=("gdn", "attention"))
    config = dataclasses.replace(config, language_model=dataclasses.replace(language_model, decoder=decoder))
    sequence = SequenceConfig(audio_timestamp_interval=0.5)
    return StoredThinker(config, sequence, AudioFeatureConfig(floor_level=-6.0), ImageConfig(max_pixels=65_536))


def random_parameters(stored: StoredThinker) -> dict:
    """Small numbers for every parameter."""
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(stored.config)
    return nested({path: 0.1 * rng.standard_normal(shape, np.float32) for path, shape in shapes.items()})


def own_thinker(directory: pathlib.Path) -> pathlib.Path:
    """Writes one."""
    stored = own_stored()
    save_thinker(directory, stored, random_parameters(stored), TOKENIZER)
    return directory
