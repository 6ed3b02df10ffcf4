"""The Thinker: reads text, images, video and audio, writes text."""

from qomni_jax.sequence.example import Example, Pictures, Recording, StreamedExample
from qomni_jax.thinker.batch import place_media
from qomni_jax.thinker.model import Media, MediaFeatures, Thinker, place_features
from qomni_jax.thinker.stream import encode_media

__all__ = [
    "Example",
    "Media",
    "MediaFeatures",
    "Pictures",
    "Recording",
    "StreamedExample",
    "Thinker",
    "encode_media",
    "place_features",
    "place_media",
]
