"""A clip's question with half of the clip."""

import pytest

from data_pipelines.conversations import ReadingConfig, read_conversation
from data_pipelines.rendered_media.inputs import with_inputs
from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video
from qomni_jax.sequence.elements import Kind
from qomni_jax.sizes import audio_encoder_tiny
from tests.sequence.conversations import TOKENIZER


def test_a_clip_is_reduced_to_what_is_heard_or_seen():
    turns = (
        Turn("user", (Video("a.mp4", sound=True), Image("b.png"), Video("mute.mp4"), Text("What?"))),
        Turn("assistant", (Text("That."),)),
    )
    assert with_inputs(turns, "both") == turns
    rest = (Image("b.png"), Video("mute.mp4"), Text("What?"))
    assert with_inputs(turns, "audio") == (Turn("user", (Audio("a.mp4"), *rest)), turns[1])
    assert with_inputs(turns, "video") == (Turn("user", (Video("a.mp4"), *rest)), turns[1])
    with pytest.raises(ValueError, match="inputs = 'image': accepted is one of audio, video, both"):
        with_inputs(turns, "image")


@pytest.mark.parametrize(
    ("inputs", "kinds"), [("both", {Kind.AUDIO, Kind.VIDEO}), ("audio", {Kind.AUDIO}), ("video", {Kind.VIDEO})]
)
def test_a_rendered_clip_is_read_as_just_that(rendered, inputs, kinds):
    turns = with_inputs(rendered["train"][12].turns, inputs)
    example = read_conversation(turns, TOKENIZER, ReadingConfig(audio_encoder_tiny()))
    assert set(example.sequence.kinds.tolist()) == {Kind.TEXT, *kinds}
    assert (len(example.videos), len(example.recordings)) == (Kind.VIDEO in kinds, Kind.AUDIO in kinds)
    assert example.sequence.loss_weights.sum() > 0
