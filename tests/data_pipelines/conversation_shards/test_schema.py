"""A record holds every byte of its media, and measures what it holds."""

import tensorflow_datasets as tfds

from data_pipelines.conversation_shards.schema import ConversationRecord, decode_conversation, encode_conversation
from data_pipelines.media.sources import MediaBytes
from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video


def test_bytes_come_back_whatever_they_are():
    # Zeros at an end, which numpy's own strings would lose, bytes that are no text, equal lengths.
    contents = [b"\0a\0\0", b"\xff\xfe\0\0", bytes(range(256)), b""]
    image, audio, video, empty = (MediaBytes(data, f"file {number}") for number, data in enumerate(contents))
    user = Turn("user", (Image(image), Text("größer"), Audio(audio), Video(video, sound=True), Image(empty)))
    record = ConversationRecord("a", (user, Turn("assistant", (Text("so"),))), {"needs": "both", "times": [0.5, None]})
    encoded, measures = encode_conversation(record)
    assert decode_conversation(encoded) == record
    assert measures == {"num_chars": 8, "num_media": 4, "media_bytes": 264}
    assert encode_conversation(record)[0] == encoded


def test_a_conversation_without_media():
    record = ConversationRecord("a", (Turn("user", (Text("hello"),)),))
    assert decode_conversation(encode_conversation(record)[0]) == record


def test_tfds_reads_it(dataset):
    builder = tfds.builder_from_directory(str(dataset.directory))
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {"train": 6, "test": 2}
    read = builder.as_data_source("train")[0]
    assert read["id"] == b"seen"
    assert list(read["media"]["data"]) == [dataset.split("train")[0].turns[0].content[0].source.data]
