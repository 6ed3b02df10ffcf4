"""Text to waveform: live, frame by frame, equals all at once."""

import functools

import jax
import numpy as np

from qomni_jax.codec import Codec
from qomni_jax.config.codec import CodecConfig, RVQConfig, VocoderConfig
from qomni_jax.config.runaway import RunawayConfig
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.config.talker import InterleaverConfig
from qomni_jax.config.training import TalkerTrainingConfig
from qomni_jax.inference.runaway import SpeechWatch
from qomni_jax.inference.speech import Speaker, SpeechRequest
from qomni_jax.sizes import talker_tiny
from qomni_jax.training.talker_step import init_talker_state

TEXT = np.array([9, 30, 77, 5, 0], np.int32)


@functools.cache
def tiny_speaker() -> Speaker:
    config = talker_tiny()
    params = init_talker_state(config, TalkerTrainingConfig(steps=1)).params
    params = {**params, "codec_head": jax.tree.map(lambda x: 4 * x, params["codec_head"])}
    return Speaker(config, InterleaverConfig(), params, SamplingConfig(0.8, 8), end_of_text=0, max_text=12)


def test_waveform_streamed_as_text_arrives_equals_the_waveform_at_once():
    quantizer = RVQConfig(latent_dim=16, num_codebooks=3, codebook_size=32)
    codec = Codec.initialise(CodecConfig(rvq=quantizer, vocoder=VocoderConfig(width=16, num_blocks=2)))
    speaker, text = tiny_speaker(), TEXT
    request = SpeechRequest(np.array([1, 2], np.int32), text, 3.0, key=4)
    said = speaker.speak([request], batch_size=3)[0]
    whole = codec.decode_codes([said.codes])[0]
    assert len(whole) == len(said.codes) * codec.config.samples_per_frame > 0

    stream = speaker.open(request.prompt, request.rate, max_frames=request.limit, key=request.key)
    audio, samples = codec.stream(), []
    for token in text:
        stream.push([token])
        samples += [audio.push(frame) for frame in stream.frames()]
    assert len(samples) == len(said.codes)
    samples.append(audio.finish())
    # The same float32 sums in another order; the waveform's scale is about 1.
    np.testing.assert_allclose(np.concatenate(samples), whole, atol=1e-5)


def test_a_watch_stops_a_stream_after_its_text_and_not_before():
    """Of 12.5 frames a second, two are spare; a token has none of its own."""
    request = SpeechRequest(np.array([1, 2], np.int32), TEXT, 3.0, key=4)
    free = tiny_speaker().speak([request], batch_size=3)[0]
    watch = SpeechWatch(RunawayConfig(seconds_per_token=1e-9, spare_seconds=0.16), 12.5)
    stream = tiny_speaker().open(request.prompt, request.rate, max_frames=request.limit, key=request.key, watch=watch)
    frames = []
    for token in TEXT:
        stream.push([token])
        assert stream.reason is None
        frames += stream.frames()
    assert (stream.finished, stream.reason) == (True, "budget")
    assert np.array_equal(frames, free.codes[: len(frames)])
    assert stream.steps.count("t") == len(TEXT)
    assert len(stream.steps) - stream.steps.rindex("t") - 1 == 2
    assert len(frames) < len(free.codes)
