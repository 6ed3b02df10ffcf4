"""Qwen3-Omni speaks: the Thinker writes, the Talker reads along, the codec sounds. All at once, or streamed."""

from collections.abc import Iterator, Sequence
import itertools
from typing import Any, NamedTuple

import numpy as np

from qomni_jax.codec.waveform_codec import WaveformCodec
from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig, SpeechTokens
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.qwen3_omni_talker import TalkerGenerator
from qomni_jax.inference.text import TextGenerator
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
    """An answer: `tokens` of the Thinker, `codes [S, Q]`, and their `samples`, float32 at the codec's rate."""

    tokens: list[int]
    codes: np.ndarray
    samples: np.ndarray


class Piece(NamedTuple):
    """What a streamed answer gives next: a token of text, or samples of its speech."""

    token: int | None = None
    samples: np.ndarray | None = None


class SpeakingGenerator:
    """Answers in text and speech. A row says the same alone and in any batch, streamed and at once.

    The last token of an answer is not spoken: it is the one that ends it. An answer of fewer than two tokens is silent.

    Args:
      capacity: tokens of a prompt and its answer.
      max_frames: of an answer; room for as many is kept for each.
      stop_tokens, sampling: of the Thinker.
      talker_sampling, residual_sampling: of codebook 0 and of the others; greedy by default.
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
    ):
        self.model, self.max_frames = model, max_frames
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
        said = self.thinker.generate(prompts, max_new_tokens, keys, features, prefilled)
        spoken = [row for row, tokens in enumerate(said) if len(tokens) > 1]
        frames = [np.zeros((0, self.model.talker.num_codebooks), np.int32)] * len(said)
        if spoken:
            assert hidden is not None
            heard = self.talker.speak(
                [self.talker_prompt(prompts[row], said[row][0], speaker) for row in spoken],
                [self.following(said[row]) for row in spoken],
                hidden[np.array(spoken)],
                self.max_frames,
                pad=self.model.tokens.tts_pad,
                keys=[keys[row] for row in spoken],
            )
            for row, one in zip(spoken, heard, strict=True):
                frames[row] = one.codes
        waves = self.model.codec.decode_codes(frames)
        return [SpokenAnswer(*row) for row in zip(said, frames, waves, strict=True)]

    def stream(
        self,
        prompt: Prompt,
        max_new_tokens: int,
        voice: str,
        *,
        features: MediaFeatures | None = None,
        key: int = 0,
    ) -> Iterator[Piece]:
        """The same answer piece by piece: a frame of speech for every token of text from the second on, then the rest.

        The first samples come as soon as there are two tokens. Arguments and errors as those of `answer`.
        """
        speaker = self.model.talker.tokens.speaker(voice)
        prefilled = self.thinker.prefill([prompt], features)
        hidden = prefilled.kept
        sound = self.model.codec.decoder_stream()
        session, last = None, None
        for token in self.thinker.stream(prompt, max_new_tokens, key, features, prefilled):
            yield Piece(token=token)
            if last is not None:
                if session is None:
                    first = self.talker_prompt(prompt, last, speaker)
                    session = self.talker.open(first, hidden, self.max_frames, key=key)
                else:
                    session.step(last)
                if session.frame is not None:
                    yield Piece(samples=sound.push(session.frame[None]))
            last = token
        tokens = self.model.tokens
        for token in itertools.chain([tokens.tts_eos], itertools.repeat(tokens.tts_pad)):
            frame = None if session is None else session.step(token)
            if frame is None:
                return
            yield Piece(samples=sound.push(frame[None]))

    def talker_prompt(self, prompt: Prompt, first: int, speaker: int) -> TalkerPrompt:
        """What the Talker reads of a prompt and of the answer's `first` token."""
        tokens, slots = prompt.tokens, prompt.slots
        positions = np.tile(np.arange(len(tokens)), (3, 1)) if prompt.positions is None else prompt.positions
        is_media = np.zeros(len(tokens), bool) if slots is None else np.asarray(slots) >= 0
        codec = self.model.talker.tokens
        return talker_prompt(tokens, positions, is_media, first, self.model.tokens, codec, speaker)

    def following(self, said: Sequence[int]) -> list[int]:
        """The tokens that the Talker reads one a frame, of an answer."""
        return [*said[1:-1], self.model.tokens.tts_eos]
