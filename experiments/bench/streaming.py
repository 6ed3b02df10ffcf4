"""The first packet of speech: from the last input sample to the first output sample, stage by stage, on a CPU.

Claim: from the last sample of a question to the first of the answer, the `small` system takes less than half a second
on two cores (27 ms measured), and speaks faster than real time.
Cost: two minutes on two cores, most of it compilation.
Command: python -m experiments.bench streaming [--size=small] [--cases="1 stream"] [--json=F]
Prediction for TPUs: python -m experiments.bench streaming --predict --plans=DIR (`experiments.bench.first_packet`)

Work: float32, random weights, all of a size: Thinker with its audio encoder, hybrid Talker, causal codec. A question of
4 s ends; what came before is encoded in whole windows and prefilled, log-mel frames are there but for the last 80 ms.
Rows, as in Table 2 of the report, for 1, 4 and 8 streams that end at the same moment and run as one batch:
`encode`: the last log-mel frames, and the encoder on the window that the question ends in; `Thinker first token`: the
window's tokens and 8 of text are read, on 256 that are in the cache; `Thinker token`: each after that; `Talker first
frame`: the two tokens of text that ARIA waits for, then a frame with all its codes; `codec`: 80 ms of sound of it;
`overall`: all of it in one go, a second token of text included. `Talker frame`, `codec frame`: of the speech that
follows; `real-time factor`: the two over the 80 ms that they make.
"""

from collections.abc import Callable
import dataclasses
import functools
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.devices import initialise
from experiments.bench.hybrid_talker import HybridStream
from experiments.bench.timing import Figure
from qomni_jax.audio.features import FeatureStream
from qomni_jax.codec.waveform_codec import WaveformCodec
from qomni_jax.codec.waveform_model import initial_state
from qomni_jax.codec.waveform_stream import stream_function
from qomni_jax.config.audio import AudioFeatureConfig
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.inference.text import Places, Prefilled, TextGenerator, decode_step, prefill_chunk
from qomni_jax.sizes import TALKERS, THINKERS
from qomni_jax.sizes.codecs import CODECS
from qomni_jax.thinker.model import Media, MediaFeatures, init_thinker
from qomni_jax.thinker.stream import encode_piece

STREAMS = (1, 4, 8)
QUESTION_SECONDS, LAST_SECONDS = 4.0, 0.08
CONTEXT, TEXT_TOKENS, ANSWER = 256, 8, 64  # tokens in the cache, behind the sound, and room for an answer
LEAD, FRAME_SECONDS = 2, 0.08
CAPACITY = 512  # steps of a Talker's stream
STAGES = ("encode", "Thinker first token", "Thinker token", "Talker first frame", "codec", "overall")
AFTERWARDS = ("Talker frame", "codec frame", "real-time factor")


def cases(repeats: int, size: str = "small") -> list[Figure]:
    found = []
    for streams in STREAMS:
        measured = functools.partial(measure, size, streams, repeats)
        for name in (*STAGES, *AFTERWARDS):
            unit = "times" if name == "real-time factor" else "s"
            label = f"{size} {streams} stream{'s' * (streams > 1)} {name}"
            found.append(Figure(label, functools.partial(_one, measured, name), unit))
    return found


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []


def _one(measured: Callable[[], dict[str, float]], name: str) -> float:
    return measured()[name]


@functools.cache
def measure(size: str, streams: int, repeats: int) -> dict[str, float]:
    """Medians of every stage, seconds, and the real-time factor."""
    system = System(size, streams)
    system.answer()
    system.answer()
    rounds = [system.answer() for _ in range(repeats)]
    found = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return {**found, "real-time factor": (found["Talker frame"] + found["codec frame"]) / FRAME_SECONDS}


class Clock:
    """Seconds since it was last asked."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        began, self._last = self._last, time.perf_counter()
        return self._last - began


class System:
    """All parts of a size for a batch of streams. Layers of the decoders have arrays of their own."""

    def __init__(self, size: str, streams: int):
        thinker, self.streams = THINKERS[size](), streams
        decoder = dataclasses.replace(thinker.language_model.decoder, stacked=False)
        language_model = dataclasses.replace(thinker.language_model, decoder=decoder, num_mtp_layers=0)
        self.thinker = ThinkerConfig(language_model, thinker.audio)
        assert thinker.audio is not None
        self.audio = thinker.audio
        self.params = initialise(lambda: init_thinker(self.thinker, jax.random.key(0)))
        self.encoders = {"audio_encoder": self.params["audio_encoder"]}
        self.features = AudioFeatureConfig(num_mels=self.audio.num_mels)
        self.frames = min(int(QUESTION_SECONDS * 100), self.audio.window_frames or 800)
        self.heard = self.audio.num_tokens(self.frames)
        self.generator = TextGenerator(
            language_model,
            self.params["language_model"],
            capacity=CONTEXT + self.heard + TEXT_TOKENS + ANSWER,
            prefill_chunk=CONTEXT,
        )
        self.talker = HybridStream(TALKERS[size](), streams, CAPACITY)
        self.codec = WaveformCodec.initialise(CODECS[size]())
        self.decode = stream_function(self.codec.config, "decode")
        rng = np.random.default_rng(0)
        self.context = rng.integers(5, 200, (streams, CONTEXT)).tolist()
        tail = rng.integers(5, 200, (streams, self.heard + TEXT_TOKENS))
        self.tail = jnp.asarray(tail, jnp.int32)
        rate = self.features.sample_rate
        self.sound = 0.1 * rng.standard_normal((streams, int(QUESTION_SECONDS * rate)), np.float32)
        self.last = int(LAST_SECONDS * rate)

    def answer(self) -> dict[str, float]:
        """Seconds of the stages, one after another, of a question that ends and an answer that begins."""
        listening = [FeatureStream(self.features) for _ in range(self.streams)]
        frames = [[ear.push(one[: -self.last])] for ear, one in zip(listening, self.sound, strict=True)]
        read = jax.block_until_ready(self.generator.prefill(self.context))
        self.talker.start()
        sounding = initial_state(self.codec.config, "decode", self.streams)
        jax.block_until_ready((self.talker.carry, sounding))

        began, clock = time.perf_counter(), Clock()
        for ear, one, samples in zip(listening, frames, self.sound, strict=True):
            one += [ear.push(samples[-self.last :]), ear.finish()]
        features = jax.block_until_ready(self.encode([np.concatenate(one) for one in frames]))
        found = {"encode": clock.lap()}
        token, cache = self.first_token(read, features)
        found["Thinker first token"] = clock.lap()
        token, cache = decode_step(self.thinker.language_model, self.params["language_model"], cache, token)
        np.asarray(token)
        found["Thinker token"] = clock.lap()
        codes = self.talker.first_frame(LEAD)
        found["Talker first frame"] = clock.lap()
        samples, sounding = self.decode(self.codec.params, sounding, codes[:, None])
        np.asarray(samples)
        found["codec"] = clock.lap()
        found["overall"] = time.perf_counter() - began

        again = []
        for _ in range(5):
            clock.lap()
            codes = np.asarray(self.talker.frame())
            talked = clock.lap()
            samples, sounding = self.decode(self.codec.params, sounding, codes[:, None])
            np.asarray(samples)
            again.append((talked, clock.lap()))
        found["Talker frame"], found["codec frame"] = (statistics.median(one) for one in zip(*again, strict=True))
        return found

    def encode(self, frames: list[np.ndarray]) -> MediaFeatures:
        """The table of the window that the questions end in."""
        rows = np.zeros((self.streams, self.audio.window_frames or self.frames, self.audio.num_mels), np.float32)
        for row, one in zip(rows, frames, strict=True):
            row[: self.frames] = one[: self.frames]
        media = Media(features=rows, frames=np.full(self.streams, self.frames, np.int32))
        return encode_piece(self.thinker, self.encoders, media)

    def first_token(self, read: Prefilled, features: MediaFeatures) -> tuple[jax.Array, Any]:
        """The likeliest token `[streams]` behind sound and text, and the cache."""
        width = len(features.table) // self.streams
        slots = np.full(self.tail.shape, -1, np.int32)
        slots[:, : self.heard] = width * np.arange(self.streams)[:, None] + np.arange(self.heard)
        at = CONTEXT + np.arange(self.tail.shape[1], dtype=np.int32)
        positions = jnp.asarray(np.broadcast_to(at, (3, *self.tail.shape)))
        places = Places(positions, jnp.asarray(slots), features)
        left = jnp.full(self.streams, self.tail.shape[1], jnp.int32)
        config = self.thinker.language_model
        state = prefill_chunk(config, self.params["language_model"], read, self.tail, left, places)
        token = jnp.argmax(state.logits, axis=-1).astype(jnp.int32)
        np.asarray(token)
        return token, state.cache
