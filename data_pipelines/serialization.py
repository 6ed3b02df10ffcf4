"""Records of tfds features: the same bytes in every process, and back to plain values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer


def encode_example(features: tfds.features.FeaturesDict, example: dict[str, Any]) -> bytes:
    """A record for `features`, the same bytes in every process: protocol buffers order maps at random by default."""
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    return serializer.get_tf_example(features.encode_example(example)).SerializeToString(deterministic=True)


def decode_example(features: tfds.features.FeaturesDict, record: bytes) -> dict[str, Any]:
    """A record as a dict of str, int and numpy arrays, nested as in `features`; sequences of texts are tuples."""
    example = features.deserialize_example_np(record)
    return {name: _plain(value, features[name]) for name, value in example.items()}


def _plain(value: Any, feature: tfds.features.FeatureConnector) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item, feature[name]) for name, item in value.items()}
    if isinstance(value, bytes) and isinstance(feature, tfds.features.Text):
        return value.decode()
    if isinstance(value, list | np.ndarray) and isinstance(feature, tfds.features.Text):
        return tuple(item.decode() for item in value)
    if isinstance(value, list):
        return np.array(value, feature.np_dtype)
    return int(value) if isinstance(value, np.integer) else value
