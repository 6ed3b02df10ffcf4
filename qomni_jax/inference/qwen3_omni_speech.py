"""Qwen3-Omni speaks: the Thinker writes, the Talker reads along, the codec sounds. All at once, or streamed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import itertools
from typing import Any, NamedTuple

from jax import Array
import numpy as np

from qomni_jax.codec.waveform_codec import WaveformCodec
from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig, SpeechTokens
from qomni_jax.config.runaway import RunawayConfig
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.qwen3_omni_talker import TalkerGenerator, TalkerSession
from qomni_jax.inference.runaway import Reason, SpeechWatch
from qomni_jax.inference.text import TextGenerator
from qomni_jax.sequence.spoken_tokens import AllButTheLast, TokenGate
from qomni_jax.talker.qwen3_omni_prompt import ADDED_STEPS, TalkerPrompt, talker_prompt
from qomni_jax.thinker.model import MediaFeatures


class SpeakingModel(NamedTuple):
    """Thinker and Talker, with the parameters of each, the codec, and the tokens that they share.

    `language_model` is the Thinker's. On a CPU the unstacked twins of both are faster (`layers.language_model`,
    `talker.qwen3_omni`).
    """

    language_model: LanguageModelConfig
    language_model_params: Any
    talker: Qwen3OmniTalkerConfig
    talker_params: Any
    codec: WaveformCodec
    tokens: SpeechTokens


class SpokenAnswer(NamedTuple):
    """An answer: `tokens` of the Thinker, `codes [S, Q]`, their `samples`, float32 at the codec's rate, and why speech
    is over (None where there was nothing to say)."""

    tokens: list[int]
    codes: np.ndarray
    samples: np.ndarray
    reason: Reason | None = None


class Piece(NamedTuple):
    """What a streamed answer gives next: a token of text, the codes `[Q]` of a frame, the samples of that frame, or at
    the very end, if anything was spoken, why speech is over."""

    token: int | None = None
    codes: np.ndarray | None = None
    samples: np.ndarray | None = None
    reason: Reason | None = None


class SpeakingGenerator:
    """Answers in text and speech. A row says the same alone and in any batch, streamed and at once.

    An answer of which nothing is spoken is silent.

    Args:
      capacity: tokens of a prompt and its answer.
      max_frames: of an answer; room for as many is kept for each.
      stop_tokens, sampling: of the Thinker.
      talker_sampling, residual_sampling: of codebook 0 and of the others; greedy by default.
      gate: makes what chooses the spoken tokens of one answer.
      runaway: when speech is stopped that does not end by itself; None, like the reference: at `max_frames` alone.
    """

    def __init__(
        self,
        model: SpeakingModel,
        *,
        capacity: int,
        max_frames: int,
        stop_tokens: Sequence[int] = (),
        sampling: SamplingConfig | None = None,
        talker_sampling: SamplingConfig | None = None,
        residual_sampling: SamplingConfig | None = None,
        gate: Callable[[], TokenGate] = AllButTheLast,
        runaway: RunawayConfig | None = None,
    ):
        self.model, self.max_frames = model, max_frames
        self.gate, self.runaway = gate, runaway
        self.thinker = TextGenerator(
            model.language_model,
            model.language_model_params,
            capacity=capacity,
            stop_tokens=stop_tokens,
            sampling=sampling,
            kept_layer=model.talker.accept_layer,
        )
        self.talker = TalkerGenerator(
            model.talker,
            model.talker_params,
            model.language_model_params["embed_tokens"],
            capacity=capacity + ADDED_STEPS + max_frames,
            sampling=talker_sampling,
            residual_sampling=residual_sampling,
        )

    def answer(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        voice: str,
        *,
        features: MediaFeatures | None = None,
        keys: Sequence[int] | None = None,
    ) -> list[SpokenAnswer]:
        """Answers to all prompts, with a `voice` by name; other arguments as those of `TextGenerator.generate`.

        Raises ValueError for an unknown voice, for a prompt that is not made of turns (`talker_prompt`), and for one
        without room for its answer.
        """
        speaker = self.model.talker.tokens.speaker(voice)
        keys = list(range(len(prompts))) if keys is None else keys
        prefilled = self.thinker.prefill(prompts, features)
        hidden = prefilled.kept
        written = self.thinker.generate(prompts, max_new_tokens, keys, features, prefilled)
        said = [self._spoken(tokens) for tokens in written]
        audible = [row for row, tokens in enumerate(said) if tokens]
        answers = [SpokenAnswer(tokens, *self._no_speech()) for tokens in written]
        if not audible:
            return answers
        assert hidden is not None
        heard = self.talker.speak(
            [self.talker_prompt(prompts[row], said[row][0], speaker) for row in audible],
            [self.following(said[row]) for row in audible],
            hidden[np.array(audible)],
            self.max_frames,
            pad=self.model.tokens.tts_pad,
            keys=[keys[row] for row in audible],
        )
        waves = self.model.codec.decode_codes([frames.codes for frames in heard])
        for row, frames, wave in zip(audible, heard, waves, strict=True):
            reason: Reason = "ended" if frames.ended else "budget"
            answers[row] = self._watched(SpokenAnswer(written[row], frames.codes, wave, reason), len(said[row]))
        return answers

    def stream(
        self,
        prompt: Prompt,
        max_new_tokens: int,
        voice: str,
        *,
        features: MediaFeatures | None = None,
        key: int = 0,
    ) -> Iterator[Piece]:
        """The same answer piece by piece: a frame of speech for every spoken token, then the rest.

        The first samples come as soon as the gate has let a token through. Arguments and errors as those of `answer`.
        """
        speaker = self.model.talker.tokens.speaker(voice)
        prefilled = self.thinker.prefill([prompt], features)
        speech, gate = LiveSpeech(self, prompt, prefilled.kept, speaker, key), self.gate()
        for token in self.thinker.stream(prompt, max_new_tokens, key, features, prefilled):
            yield Piece(token=token)
            yield from speech.say(gate.feed(token))
        yield from speech.say(gate.close())
        yield from speech.finish()

    def talker_prompt(self, prompt: Prompt, first: int, speaker: int) -> TalkerPrompt:
        """What the Talker reads of a prompt and of the `first` token that it speaks."""
        tokens, slots = prompt.tokens, prompt.slots
        positions = np.tile(np.arange(len(tokens)), (3, 1)) if prompt.positions is None else prompt.positions
        is_media = np.zeros(len(tokens), bool) if slots is None else np.asarray(slots) >= 0
        codec = self.model.talker.tokens
        return talker_prompt(tokens, positions, is_media, first, self.model.tokens, codec, speaker)

    def following(self, said: Sequence[int]) -> list[int]:
        """The tokens that the Talker reads one a frame, of those that it speaks."""
        return [*said[1:], self.model.tokens.tts_eos]

    def watch(self) -> SpeechWatch | None:
        """What watches one answer, if anything does."""
        return None if self.runaway is None else SpeechWatch(self.runaway, self.model.codec.config.frame_rate)

    def _spoken(self, written: Sequence[int]) -> list[int]:
        gate = self.gate()
        return [*itertools.chain.from_iterable(gate.feed(token) for token in written), *gate.close()]

    def _no_speech(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((0, self.model.talker.num_codebooks), np.int32), np.zeros(0, np.float32)

    def _watched(self, answer: SpokenAnswer, tokens: int) -> SpokenAnswer:
        """The answer up to the frame at which a live one is stopped; frame n has read the first n + 1 `tokens`."""
        watch, config = self.watch(), self.model.codec.config
        if watch is None:
            return answer
        start = 0
        for number, codes in enumerate(answer.codes):
            if number == tokens:
                watch.end_of_text(tokens)
            end = max(0, (number + 1) * config.samples_per_frame - config.decoder.delay)
            watch.frame(codes)
            watch.sound(answer.samples[start:end])
            if watch.reason is not None:
                return SpokenAnswer(answer.tokens, answer.codes[: number + 1], answer.samples[:end], watch.reason)
            start = end
        return answer


class LiveSpeech:
    """The speech of one answer that is still being written; arguments as those of `SpeakingGenerator.stream`.

    `hidden`: what the Thinker made of the prompt (`Prefilled.kept`).
    """

    def __init__(self, generator: SpeakingGenerator, prompt: Prompt, hidden: Array | None, speaker: int, key: int):
        self._generator, self._prompt, self._hidden = generator, prompt, hidden
        self._speaker, self._key = speaker, key
        self._sound = generator.model.codec.decoder_stream()
        self._watch = generator.watch()
        self._session: TalkerSession | None = None
        self._tokens = 0

    def say(self, tokens: Iterable[int]) -> Iterator[Piece]:
        """A frame for each of the next spoken tokens, as long as speech goes on."""
        generator = self._generator
        for token in tokens:
            self._tokens += 1
            if self._session is None:
                first = generator.talker_prompt(self._prompt, token, self._speaker)
                self._session = generator.talker.open(first, self._hidden, generator.max_frames, key=self._key)
                yield from self._pieces(self._session.frame)
            else:
                yield from self._pieces(self._session.step(token))

    def finish(self) -> Iterator[Piece]:
        """What is left to say once all tokens are there, and why speech is over."""
        session, watch, tokens = self._session, self._watch, self._generator.model.tokens
        if session is None:
            return
        if watch is not None:
            watch.end_of_text(self._tokens)
        following = itertools.chain([tokens.tts_eos], itertools.repeat(tokens.tts_pad))
        while session.frame is not None and (watch is None or watch.reason is None):
            yield from self._pieces(session.step(next(following)))
        stopped = watch.reason if watch is not None else None
        yield Piece(reason=stopped or ("ended" if session.ended else "budget"))

    def _pieces(self, codes: np.ndarray | None) -> Iterator[Piece]:
        if codes is None:
            return
        yield Piece(codes=codes)
        samples = self._sound.push(codes[None])
        if self._watch is not None:
            self._watch.frame(codes)
            self._watch.sound(samples)
        yield Piece(samples=samples)
