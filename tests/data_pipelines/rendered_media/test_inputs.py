"""A clip's question with half of the clip."""

import pytest

from data_pipelines.rendered_media.inputs import with_inputs
from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video


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
