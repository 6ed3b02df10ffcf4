"""One turn: the question is read and encoded, the answer printed and written as it comes."""

import dataclasses
import json
from typing import Any

import jax

from experiments.talk.answers import Answerer, Event
from experiments.talk.clock import Clock, describe_speech
from experiments.talk.question import Question
from experiments.talk.wav import WavStream
from qomni_jax.inference.prompts import Prompt
from qomni_jax.thinker import encode_media
from qomni_jax.thinker.model import MediaFeatures


def take_turn(model: Answerer, question: Question, sound: WavStream | None, *, warm_up: bool) -> dict[str, Any]:
    """Answers, and returns the record of it. Raises ValueError and OSError with one line."""
    count = question.count()
    print(f"[{count.total} tokens: {count.text} text, {count.audio} audio, {count.image} image, {count.video} video]")
    if warm_up:
        model.warm_up(*_encoded(model, question))
    clock = Clock()
    encoded = _encoded(model, question)
    clock.mark("encoded")
    events = _Shown(sound)
    for event in model.stream(*encoded):
        clock.see(event)
        events.show(event)
    print()
    for call in events.calls:
        print(f"tool call: {json.dumps(call, ensure_ascii=False)}")
    compilation = "compiled before" if warm_up else "compilation included"
    times = clock.text_times()
    print(f"[first text after {times['first_text_seconds']:.2f} s, all after {times['seconds']:.2f} s, {compilation}]")
    found: dict[str, Any] = {"text": "".join(events.said), "tool_calls": events.calls, "tokens": count._asdict()}
    found |= {**times, "warmed_up": warm_up}
    if sound is not None:
        found["speech"] = _speech(sound, events, clock, compilation)
    return found


class _Shown:
    """What has come of an answer, once it is printed and written."""

    def __init__(self, sound: WavStream | None):
        self._sound = sound
        self.said: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.frames = self.first_samples = 0
        self.reason: str | None = None

    def show(self, event: Event) -> None:
        if event.text:
            print(event.text, end="", flush=True)
            self.said.append(event.text)
        self.calls += [dataclasses.asdict(call) for call in event.tool_calls]
        if event.samples is not None and self._sound is not None:
            self._sound.write(event.samples)
            self.frames += 1
            if self.frames == 1:
                self.first_samples = self._sound.samples
        self.reason = event.reason or self.reason


def _encoded(model: Answerer, question: Question) -> tuple[Prompt, MediaFeatures | None]:
    example = question.read()
    features, (slots,) = encode_media([example], model.stored.config, model.params)
    jax.block_until_ready(features)
    return Prompt(example.sequence.tokens, example.sequence.positions, slots), features


def _speech(sound: WavStream, events: _Shown, clock: Clock, compilation: str) -> dict[str, Any]:
    """The record of what was spoken, which is printed."""
    times = clock.speech_times((sound.samples - events.first_samples) / sound.sample_rate)
    if not events.frames:
        print(f"[nothing of it is spoken: {sound.path} is empty]")
    else:
        print(f"[{describe_speech(times)}; {compilation}]")
        factor = times["real_time_factor"]
        print(
            f"[{sound.seconds:.2f} s of speech in {sound.path}, real-time factor "
            f"{'-' if factor is None else f'{factor:.3f}'}; {_REASONS[str(events.reason)]}]"
        )
    spoken: dict[str, Any] = {
        "wav": str(sound.path),
        "seconds": sound.seconds,
        "frames": events.frames,
        "reason": events.reason,
    }
    return {**spoken, **times}


_REASONS = {
    "ended": "it ended by itself",
    "repetition": "it was stopped: it repeated itself",
    "silence": "it was stopped: it had fallen silent",
    "budget": "it was stopped: it was too long for its text, or longer than --max_frames",
}
