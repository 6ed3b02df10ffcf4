"""The Thinker: reads text, images, video and audio, writes text."""

from qomni_jax.sequence.example import Example
from qomni_jax.thinker.batch import place_media
from qomni_jax.thinker.model import Media, MediaFeatures, Thinker, place_features

__all__ = ["Example", "Media", "MediaFeatures", "Thinker", "place_features", "place_media"]
