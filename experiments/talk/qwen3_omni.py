"""Answers in text and speech by a released Qwen3-Omni: its Thinker, its Talker and its codec."""

from collections.abc import Callable, Iterator
import dataclasses
import functools
from pathlib import Path

from experiments.talk.answers import WARM_UP_TOKENS, Event, Writing, read_tokenizer, require_pads, stop_tokens
from qomni_jax.codec.waveform_codec import WaveformCodec
from qomni_jax.config.qwen3_omni_talker import RELEASED_RESIDUAL_SAMPLING, RELEASED_SAMPLING, Qwen3OmniTalkerConfig
from qomni_jax.config.runaway import RunawayConfig
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.qwen3_omni_speech import SpeakingGenerator, SpeakingModel
from qomni_jax.interop.released import read_released
from qomni_jax.interop.speech_storage import is_whole
from qomni_jax.interop.talker_model import open_qwen3_omni, plan_qwen3_omni
from qomni_jax.layers.language_model import unstack_language_model
from qomni_jax.sequence.spoken_tokens import AllButTheLast, SpokenTokens, TokenGate
from qomni_jax.talker.qwen3_omni import unstack_qwen3_omni_talker
from qomni_jax.thinker.model import MediaFeatures
from qomni_jax.thinker.storage import is_thinker

_WARM_UP_FRAMES = 4  # one with the prompt, one with text, one with its end, one behind it


@dataclasses.dataclass(frozen=True)
class Voice:
    """How the released Talker speaks.

    Attributes:
      speaker: a name of the release.
      sampling, residual_sampling: of codebook 0 and of the others.
      max_frames: of an answer.
      runaway: when speech that does not end is stopped; None: at `max_frames`.
    """

    speaker: str = "Ethan"
    sampling: SamplingConfig = RELEASED_SAMPLING
    residual_sampling: SamplingConfig = RELEASED_RESIDUAL_SAMPLING
    max_frames: int = 4096
    runaway: RunawayConfig | None = dataclasses.field(default_factory=RunawayConfig)


class SpokenAnswers:
    """Answers in text and speech. Text that is not for the ear (`sequence.speakable`) does not reach the Talker.

    Raises ValueError and OSError with one line where there is no such model or voice, before any weights are read.
    """

    def __init__(self, checkpoint: str, sampling: SamplingConfig, max_new_tokens: int, voice: Voice):
        _talker_of(checkpoint).tokens.speaker(voice.speaker)
        self.tokenizer = read_tokenizer(checkpoint)
        opened, params = open_qwen3_omni([checkpoint])
        require_pads(checkpoint, self.tokenizer, opened.thinker.pads)
        self.stored, self.params = opened.thinker.stored, params["thinker"]
        self.sample_rate: int | None = opened.codec.sample_rate
        self._model = SpeakingModel(
            *unstack_language_model(self.stored.config.language_model, self.params["language_model"]),
            *unstack_qwen3_omni_talker(opened.talker, params["talker"]),
            WaveformCodec(opened.codec, params["codec"]),
            opened.tokens,
        )
        self._sampling, self._max_new_tokens, self._voice = sampling, max_new_tokens, voice

    def stream(self, prompt: Prompt, features: MediaFeatures | None) -> Iterator[Event]:
        """The answer to a prompt with media."""
        writing = Writing(self.tokenizer)
        generator = self._generator(prompt, functools.partial(SpokenTokens, self.tokenizer))
        for piece in generator.stream(prompt, self._max_new_tokens, self._voice.speaker, features=features):
            if piece.token is None:
                yield Event(codes=piece.codes, samples=piece.samples, reason=piece.reason)
            else:
                yield writing.feed(piece.token)
        yield writing.close()

    def warm_up(self, prompt: Prompt, features: MediaFeatures | None) -> None:
        """Compiles all that `stream` runs for this prompt: a few tokens are said, whatever they are."""
        generator = self._generator(prompt, AllButTheLast)
        tokens = min(WARM_UP_TOKENS, self._max_new_tokens)
        frames = 0
        for piece in generator.stream(prompt, tokens, self._voice.speaker, features=features):
            frames += piece.samples is not None
            if frames == _WARM_UP_FRAMES:
                break

    def _generator(self, prompt: Prompt, gate: Callable[[], TokenGate]) -> SpeakingGenerator:
        return SpeakingGenerator(
            self._model,
            capacity=len(prompt.tokens) + self._max_new_tokens,
            max_frames=self._voice.max_frames,
            stop_tokens=stop_tokens(self.tokenizer),
            sampling=self._sampling,
            talker_sampling=self._voice.sampling,
            residual_sampling=self._voice.residual_sampling,
            gate=gate,
            runaway=self._voice.runaway,
        )


def _talker_of(checkpoint: str) -> Qwen3OmniTalkerConfig:
    """What a checkpoint says of its Talker; reads no weights. Raises ValueError where it has none."""
    path = Path(checkpoint)
    speaks = is_whole(path) if is_thinker(path) else "talker_config" in (read_released([checkpoint]).config or {})
    if not speaks:
        raise ValueError(f"{checkpoint}: has no Talker: accepted with --out is a whole Qwen3-Omni")
    talker = plan_qwen3_omni([checkpoint])[0].talker.config
    assert isinstance(talker, Qwen3OmniTalkerConfig)
    return talker
