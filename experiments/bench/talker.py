"""A spoken answer of a tiny Qwen3-Omni on a CPU against transformers on torch, and what a frame costs late in a stream.

Claim: from a prompt to samples, ours is at least 8 times as fast as the peer; a frame costs the same at the start of a
stream and after 5,000 frames, but for attention's growth.
Cost: about three minutes on two cores with the peer.
Command: python -m experiments.bench talker --peer [--checkpoint=DIR] [--json=F]

Work: float32, greedy. `spoken answer` is Thinker, Talker, code predictor and Code2Wav: 16 tokens of text, 31 frames of
speech (the peer draws 32 codes and drops the last), 59,000 samples, to 12 tokens of text or to two seconds of sound as
log-mel frames. Both sides read the same checkpoint: one that the bench writes (`experiments.bench.omni_checkpoint`), or
a released one of tiny size in DIR, of the same tokens.
`frame N` is one frame late in a stream with room for 5,200 steps: of Qwen3-Omni's Talker in that checkpoint, residual
codes included, and of the hybrid Talker of size `small`; the mean of 20.
"""

import atexit
from collections.abc import Callable
import functools
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np

from experiments.bench import omni_checkpoint as omni
from experiments.bench.hybrid_talker import HybridStream
from experiments.bench.timing import Case
from qomni_jax.codec.waveform_codec import WaveformCodec
from qomni_jax.config.qwen3_omni_talker import RELEASED_SAMPLING
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.qwen3_omni_speech import SpeakingGenerator, SpeakingModel
from qomni_jax.inference.qwen3_omni_talker import TalkerSession
from qomni_jax.interop import open_qwen3_omni
from qomni_jax.interop.released_prompt import read_prompt
from qomni_jax.layers.language_model import unstack_language_model
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.media_sizes import AudioSize
from qomni_jax.sizes import talker_small
from qomni_jax.talker.qwen3_omni import unstack_qwen3_omni_talker
from qomni_jax.thinker import Example, Thinker, place_media

PEER_MODULE = "experiments.bench.peer_talker"
TOKENS, CODES, VOICE = 16, 31, "Ethan"
FRAMES, MELS = 203, 128  # of the sound, log-mel
AT, CAPACITY, REPEATED = (10, 100, 1_000, 5_000), 5_200, 20


def cases(repeats: int, checkpoint: str | None = None) -> list[Case]:
    """`checkpoint`: a directory; None: a random one, which goes with this process."""
    del repeats
    checkpoint = checkpoint or _random_checkpoint()
    found = []
    for name, frames in (("text", 0), ("audio", FRAMES)):
        build = functools.partial(_spoken_answer, checkpoint, frames)
        found.append(Case(f"spoken answer {name} fp32", build, _forms(checkpoint, frames)))
    for at in AT:
        found.append(
            Case(f"qwen3_omni frame {at} fp32", functools.partial(_released_frames, checkpoint, at), steps=REPEATED)
        )
    for at in AT:
        found.append(Case(f"hybrid frame {at} fp32", functools.partial(_hybrid_frames, at), steps=REPEATED))
    return found


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []


@functools.cache
def _random_checkpoint() -> str:
    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    return str(omni.write_checkpoint(pathlib.Path(directory.name)))


def prompt_ids(frames: int) -> list[int]:
    """A question of four tokens of text, or of a recording of `frames` log-mel frames and two of text."""
    asked = [5, 6, 7, 8]
    if frames:
        asked = [omni.AUDIO_START, *[omni.AUDIO] * _audio_tokens(frames), omni.AUDIO_END, 5, 6]
    turn = [omni.IM_START, omni.USER, omni.NEWLINE, *asked, omni.IM_END, omni.NEWLINE]
    return [*turn, omni.IM_START, omni.ASSISTANT, omni.NEWLINE]


def _audio_tokens(frames: int) -> int:
    """Tokens of AuT: three halvings in chunks of 100 frames."""
    whole, rest = divmod(frames, 100)
    return whole * 13 + -(-rest // 8)


def _forms(checkpoint: str, frames: int) -> tuple[dict[str, Any], ...]:
    work = {
        "checkpoint": checkpoint,
        "ids": prompt_ids(frames),
        "frames": frames,
        "mels": MELS,
        "tokens": TOKENS,
        "codes": CODES,
        "samples": CODES * 1920 - 555,
        "stop": omni.IM_END,
        "voice": VOICE,
    }
    return tuple({**work, "experts": experts} for experts in ("eager", "grouped_mm"))


class Speaker:
    """The checkpoint, opened, with layers that have arrays of their own, as is fastest on a CPU."""

    def __init__(self, path: str, max_frames: int):
        opened, params = open_qwen3_omni([path])
        self.opened, self.config, self.encoders = opened, opened.thinker.stored.config, params["thinker"]
        language_model = unstack_language_model(self.config.language_model, params["thinker"]["language_model"])
        talker = unstack_qwen3_omni_talker(opened.talker, params["talker"])
        codec = WaveformCodec(opened.codec, params["codec"])
        self.generator = SpeakingGenerator(
            SpeakingModel(*language_model, *talker, codec, opened.tokens),
            capacity=64,
            max_frames=max_frames,
            talker_sampling=SamplingConfig(repetition_penalty=RELEASED_SAMPLING.repetition_penalty),
        )
        self._encode = jax.jit(lambda params, media: Thinker(self.config).apply(params, media, method=Thinker.encode))

    def ask(self, frames: int) -> tuple[Prompt, Any]:
        """The prompt with its positions, and the encoders' outputs for its recording."""
        ids = np.array(prompt_ids(frames))
        assert self.config.audio is not None
        recordings = [np.random.default_rng(0).standard_normal((frames, MELS), np.float32)] if frames else []
        sizes: Any = {Kind.AUDIO: [AudioSize(self.config.audio.num_tokens(frames)) for _ in recordings]}
        sequence = read_prompt(ids, self.opened.thinker.pads, sizes, self.opened.thinker.stored.sequence)
        media, (slots,) = place_media([Example(sequence, [], [], recordings)], self.config)
        features = None if media is None else self._encode({"params": self.encoders}, media)
        return Prompt(sequence.tokens, sequence.positions, slots), features


def _spoken_answer(checkpoint: str, frames: int) -> Callable[[], Any]:
    speaker = Speaker(checkpoint, CODES)

    def call() -> Any:
        prompt, features = speaker.ask(frames)
        (answer,) = speaker.generator.answer([prompt], TOKENS, VOICE, features=features)
        if (len(answer.tokens), len(answer.codes)) != (TOKENS, CODES):
            raise ValueError(f"{len(answer.tokens)} tokens, {len(answer.codes)} frames: accepted are {TOKENS}, {CODES}")
        return answer

    for _ in range(2):
        call()
    return call


class _Walk:
    """One stream of Qwen3-Omni's Talker, on whose way the frames stand."""

    def __init__(self, checkpoint: str):
        speaker = Speaker(checkpoint, CAPACITY - 64)
        prompt, _ = speaker.ask(0)
        generator = speaker.generator
        first = generator.talker_prompt(prompt, 9, speaker.opened.talker.tokens.speaker(VOICE))
        self.session: TalkerSession = generator.talker.open(first, None, CAPACITY - 64)
        self.pad, self.frames = speaker.opened.tokens.tts_pad, 1

    def go(self, frames: int) -> None:
        for _ in range(frames):
            if self.session.step(self.pad) is None:
                raise ValueError(f"speech ends at frame {self.frames}: accepted is a checkpoint whose speech goes on")
            self.frames += 1


@functools.cache
def _walk(checkpoint: str) -> _Walk:
    return _Walk(checkpoint)


def _released_frames(checkpoint: str, at: int) -> Callable[[], Any]:
    walk = _walk(checkpoint)
    walk.go(max(at - walk.frames, 2))
    return lambda: walk.go(REPEATED)


def _hybrid_frames(at: int) -> Callable[[], Any]:
    stream = HybridStream(talker_small(), rows=1, capacity=CAPACITY)
    stream.seen(at)
    stream.frame()
    return lambda: [jax.block_until_ready(stream.frame()) for _ in range(REPEATED)]
