"""Speech after prompts of other lengths: nothing of it depends on the company, and live equals all at once."""

import dataclasses

import numpy as np
import pytest

from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.speech import Speaker, SpeechRequest
from qomni_jax.talker.voice_prompt import make_voice
from tests.talker.voices import stored_talker


@pytest.fixture(scope="module")
def speaker():
    return Speaker.of(stored_talker(), SamplingConfig(0.8, 8))


@pytest.fixture(scope="module")
def requests():
    stored, rng = stored_talker(), np.random.default_rng(1)
    clip, long = (rng.standard_normal(n).astype(np.float32) / 10 for n in (10_000, 36_000))
    voices = [
        make_voice(stored),
        make_voice(stored, style="slow, low"),
        make_voice(stored, audio=clip, transcript="alpha"),
        make_voice(stored, audio=long, transcript="alpha bravo", style="loud"),
    ]
    text = stored.tokenizer.encode("alpha bravo")
    return [SpeechRequest(voice.prompt, text, voice.rate, key) for key, voice in enumerate(voices)]


def same(ours, theirs):
    assert ours.steps == theirs.steps
    np.testing.assert_array_equal(ours.codes, theirs.codes)


def test_what_is_said_does_not_depend_on_the_prompts_of_others(speaker, requests):
    together = speaker.speak(requests, batch_size=4)
    assert len({said.codes.tobytes() for said in together}) == len(requests)  # the prompt does matter
    for request, said in zip(requests, together, strict=True):
        same(speaker.speak([request] * 4, batch_size=4)[0], said)
        same(speaker.speak([request], batch_size=1)[0], said)


def test_padding_does_not_change_what_is_said(speaker, requests):
    """A speaker that pads to the prompt's own length, not at all that is, says the same."""
    stored = stored_talker()
    short = [dataclasses.replace(request, rate=1.0) for request in requests]  # none is stopped for want of room
    for request, said in zip(short[1:], speaker.speak(short, batch_size=4)[1:], strict=True):
        speech = dataclasses.replace(stored.speech, max_prompt=len(request.prompt))
        exact = Speaker.of(dataclasses.replace(stored, speech=speech), SamplingConfig(0.8, 8))
        same(exact.speak([request] * 4, batch_size=4)[0], said)


def test_live_speech_from_a_reference_equals_speech_at_once(speaker, requests):
    whole = speaker.speak(requests, batch_size=4)
    for request, said in zip(requests[2:], whole[2:], strict=True):
        stream = speaker.open(request.prompt, request.rate, max_frames=request.limit, key=request.key)
        frames = []
        for token in request.text:
            stream.push([token])
            frames += list(stream.frames())
        assert stream.finished
        assert stream.steps == said.steps
        np.testing.assert_array_equal(np.array(frames).reshape(-1, 3), said.codes)


def test_a_prompt_beyond_the_limit_is_refused(speaker, requests):
    long = dataclasses.replace(requests[0], prompt=np.full(41, 9, np.int32))
    with pytest.raises(ValueError, match="Talker prompt of 41 steps: accepted are 1 to 40"):
        speaker.speak([long], batch_size=1)
    with pytest.raises(ValueError, match="Talker prompt of 0 steps"):
        speaker.open(np.zeros(0, np.int32), 1.0, max_frames=9)
