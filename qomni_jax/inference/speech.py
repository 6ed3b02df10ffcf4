"""Speech from text with a trained Talker: whole batches at once, or one live stream fed as text comes."""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.config.talker import InterleaverConfig, TalkerConfig
from qomni_jax.inference import talker_stream
from qomni_jax.inference.runaway import Reason, SpeechWatch
from qomni_jax.inference.talker_stream import TalkerStreamer, streamer
from qomni_jax.talker.prompt import Prompt, as_prompt
from qomni_jax.talker.storage import StoredTalker
from qomni_jax.talker.talker import StreamInput


@dataclasses.dataclass(frozen=True)
class SpeechRequest:
    """What to say: the Talker's prompt (of text alone: ids `[P]`), text ids `[T]` (end-of-text last), the expected
    frames per text token, and the `key` that the row's random draws are made from."""

    prompt: np.ndarray | Prompt
    text: np.ndarray
    rate: float
    key: int = 0

    @property
    def limit(self) -> int:
        """Frames at which speech that does not end itself is stopped, if there is room for so many: two and a half
        times what is expected."""
        return int(2.5 * self.rate * len(self.text)) + 25


@dataclasses.dataclass(frozen=True)
class Spoken:
    """What was said: `codes [S, Q]`, one character a stream step in `steps` ('t' text, 's' frame, 'b' both), and
    whether the Talker ended by itself."""

    codes: np.ndarray
    steps: str
    ended: bool


class Speaker:
    """A trained Talker under one scheme, ready to speak.

    `durations [text vocabulary]`: how long each text token is expected to last, in mean tokens; alike when not given.
    `max_prompt`: steps of the longest prompt. All are padded to as many, so that what is said does not depend on the
    prompts of others.

    Raises ValueError from `speak` and `open` for a prompt longer than `max_prompt`, and for a request longer than the
    Talker's `max_positions` allow.
    """

    def __init__(
        self,
        config: TalkerConfig,
        interleaver: InterleaverConfig,
        params: Any,
        sampling: SamplingConfig,
        end_of_text: int,
        *,
        max_text: int,
        durations: np.ndarray | None = None,
        max_prompt: int = 2,
    ):
        self.params, self.sampling, self.max_text, self.max_prompt = params, sampling, max_text, max_prompt
        self.config = config
        self.durations = jnp.ones(config.text_vocab_size) if durations is None else jnp.asarray(durations, jnp.float32)
        self.streamer: TalkerStreamer = streamer(config, interleaver, sampling, end_of_text)

    @classmethod
    def of(cls, stored: StoredTalker, sampling: SamplingConfig) -> "Speaker":
        """The speaker of a Talker on disk; `talker.voice_prompt` makes its prompts."""
        return cls(
            stored.config,
            stored.interleaver,
            stored.params,
            sampling,
            stored.tokenizer.end_of_text,
            max_text=stored.speech.max_text,
            durations=stored.durations,
            max_prompt=stored.speech.max_prompt,
        )

    def speak(self, requests: Sequence[SpeechRequest], batch_size: int) -> list[Spoken]:
        """Says all requests, in batches of like length of exactly `batch_size` rows (one compilation)."""
        for request in requests:
            self._check(request)
        order = np.argsort([len(r.text) * r.rate for r in requests], kind="stable")
        spoken: list[Spoken | None] = [None] * len(requests)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            rows = [requests[i] for i in np.resize(chosen, batch_size).tolist()]
            limits = [min(r.limit, self._max_steps - len(r.text)) for r in rows]
            carry = self.start([r.prompt for r in rows], [r.rate for r in rows], limits, [r.key for r in rows])
            text = np.stack([np.pad(r.text, (0, self.max_text - len(r.text)), constant_values=-1) for r in rows])
            lengths = np.array([len(r.text) for r in rows], np.int32)
            events = self.streamer.generate(
                self.params, carry, jnp.asarray(text), lengths, self.durations, self._max_steps
            )
            kinds, codes, rides = (np.asarray(x) for x in events)
            for row, index in enumerate(chosen):
                spoken[index] = _spoken(kinds[:, row], codes[:, row], rides[:, row])
        return [one for one in spoken if one is not None]

    def open(
        self,
        prompt: np.ndarray | Prompt,
        rate: float,
        *,
        max_frames: int,
        key: int = 0,
        watch: SpeechWatch | None = None,
    ) -> "SpeechStream":
        """A live stream of one utterance whose text is still coming; a `watch` stops it where speech runs away."""
        return SpeechStream(self, prompt, rate, max_frames, key, watch)

    def start(
        self, prompts: Sequence[np.ndarray | Prompt], rates: Sequence[float], limits: Sequence[int], keys: Sequence[int]
    ) -> talker_stream.StreamCarry:
        """The streams of a batch after their prompts, before their first step; `limits` in frames."""
        rows = [as_prompt(prompt, self.config.num_codebooks) for prompt in prompts]
        lengths = np.array([len(row) for row in rows], np.int32)
        if not 0 < lengths.min() <= lengths.max() <= self.max_prompt:
            wrong = lengths.min() if lengths.min() == 0 else lengths.max()
            raise ValueError(f"Talker prompt of {wrong} steps: accepted are 1 to {self.max_prompt}")
        text = np.full((len(rows), self.max_prompt), -1, np.int32)
        codes = np.zeros((*text.shape, self.config.num_codebooks), np.int32)
        frame = np.zeros_like(text)
        for row, prompt in enumerate(rows):
            text[row, : len(prompt)] = prompt.text
            codes[row, : len(prompt)] = np.maximum(prompt.codes, 0)
            frame[row, : len(prompt)] = prompt.has_frame
        return self.streamer.prefill(
            self.params,
            StreamInput(*map(jnp.asarray, (text, codes, frame))),
            None if lengths.min() == self.max_prompt else jnp.asarray(lengths),
            jnp.asarray(rates, jnp.float32),
            jnp.asarray(limits, jnp.int32),
            self._keys(keys),
        )

    @property
    def _max_steps(self) -> int:
        return self.config.max_positions - self.max_prompt

    def _check(self, request: SpeechRequest) -> None:
        expected = int(request.rate * len(request.text)) + 1
        if len(request.text) > self.max_text or len(request.text) + expected > self._max_steps:
            raise ValueError(
                f"text of {len(request.text)} tokens: accepted are at most {self.max_text} tokens and, with the speech "
                f"that is expected of them ({expected} frames), {self._max_steps} stream steps"
            )

    def _keys(self, keys: Sequence[int]) -> jax.Array:
        root = jax.random.key(self.sampling.seed)
        return jax.vmap(lambda key: jax.random.fold_in(root, key))(jnp.asarray(keys, jnp.uint32))


class SpeechStream:
    """One utterance, live: `push` text as it comes, take `frames` as they can be said.

    However the text is cut into pushes, the frames are those that `Speaker.speak` gives for the whole text, up to the
    one at which a watch stops it. Whoever decodes the frames may pass their samples to the watch.
    """

    def __init__(
        self,
        speaker: Speaker,
        prompt: np.ndarray | Prompt,
        rate: float,
        max_frames: int,
        key: int,
        watch: SpeechWatch | None,
    ):
        self._speaker, self._watch = speaker, watch
        self._text = np.full((1, speaker.max_text), -1, np.int32)
        self._arrived = 0
        self.steps = ""
        self.ended = False
        self.finished = False
        self._text_read = False
        self._carry = speaker.start([prompt], [rate], [max_frames], [key])
        self._steps_left = speaker._max_steps

    def push(self, text: Sequence[int] | np.ndarray) -> None:
        """Adds text ids. The last id of an utterance is end-of-text; without it speech does not end.

        Raises ValueError when the text gets longer than the speaker's `max_text`.
        """
        total = self._arrived + len(text)
        if total > self._text.shape[1]:
            raise ValueError(f"text of {total} tokens: accepted are at most {self._text.shape[1]}")
        self._text[0, self._arrived : total] = text
        self._arrived = total

    @property
    def reason(self) -> Reason | None:
        """Why the utterance is over, once it is `finished`."""
        if not self.finished:
            return None
        stopped = None if self._watch is None else self._watch.reason
        return "ended" if self.ended else stopped or "budget"

    def frames(self) -> Iterator[np.ndarray]:
        """Yields frames `[Q]` until more text is needed or the utterance is over (`finished`)."""
        while not self.finished:
            if self._watch is not None and self._watch.reason is not None:
                self.finished = True
                return
            speaker, arrived = self._speaker, np.array([self._arrived], np.int32)
            text = jnp.asarray(self._text)
            self._carry, event = speaker.streamer.step(speaker.params, self._carry, text, arrived, speaker.durations)
            kind = int(event.kind[0])
            if kind == talker_stream.STARVED:
                return
            self._steps_left -= 1
            self.steps += _letter(kind, bool(event.with_text[0]))
            self.ended = kind == talker_stream.END
            self.finished = bool(self._carry.done[0]) or self._steps_left == 0
            codes = np.asarray(event.codes[0]) if kind == talker_stream.FRAME else None
            if self._watch is not None:
                self._show(self._watch, codes)
            if codes is not None:
                yield codes

    def _show(self, watch: SpeechWatch, codes: np.ndarray | None) -> None:
        """Tells the watch of a step: its frame, if it was one, and when the text has been read."""
        if codes is not None:
            watch.frame(codes)
        if not self._text_read and bool(self._carry.state.text_ended[0]):
            self._text_read = True
            watch.end_of_text(self._arrived)


def _spoken(kinds: np.ndarray, codes: np.ndarray, rides: np.ndarray) -> Spoken:
    steps = "".join(_letter(int(kind), bool(ride)) for kind, ride in zip(kinds, rides, strict=True))
    return Spoken(codes[kinds == talker_stream.FRAME], steps, bool(np.any(kinds == talker_stream.END)))


def _letter(kind: int, with_text: bool) -> str:
    if kind == talker_stream.FRAME:
        return "b" if with_text else "s"
    return "t" if kind == talker_stream.TEXT else ""
