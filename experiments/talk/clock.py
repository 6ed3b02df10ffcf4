"""When things come, from the last input on."""

import itertools
import time
from typing import Any

from experiments.talk.answers import Event

# What the first packet waits for, one after the other, and how it is called in the record and to the reader.
_STAGES = (
    ("encoded", "encode_seconds", "encoding"),
    ("token", "thinker_first_token_seconds", "the Thinker's first token"),
    ("text", "text_lead_seconds", "more text"),
    ("frame", "talker_first_frame_seconds", "the Talker's first frame"),
    ("samples", "codec_seconds", "the codec"),
)


class Clock:
    """Times of one answer, in seconds from when the clock was made: when the last input was there."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first: dict[str, float] = {}
        self._latest = 0.0  # samples

    def mark(self, name: str) -> float:
        """Now, which is kept if `name` has not been before."""
        now = time.monotonic() - self._began
        self._first.setdefault(name, now)
        return now

    def see(self, event: Event) -> None:
        """Something of the answer has come."""
        if event.text is not None:
            now = self.mark("token")
            if "frame" not in self._first:
                self._first["text"] = now  # the last one before the Talker's first frame
        if event.codes is not None:
            self.mark("frame")
        if event.samples is not None:
            self._latest = self.mark("samples")

    def text_times(self) -> dict[str, float]:
        """`first_text_seconds` and `seconds`, of all of it."""
        return {"first_text_seconds": self._first["token"], "seconds": time.monotonic() - self._began}

    def speech_times(self, later_seconds: float) -> dict[str, Any]:
        """The latency of the first packet and its parts, which sum to it; None for all where nothing was spoken.

        `real_time_factor`: how long everything behind the first packet took, text included, over its `later_seconds` of
        sound; None where there is nothing behind it.
        """
        names = ["first_packet_seconds", *(name for _, name, _ in _STAGES), "real_time_factor"]
        if "samples" not in self._first:
            return dict.fromkeys(names)
        ends = [0.0, *(self._first[stage] for stage, _, _ in _STAGES)]
        parts = [end - start for start, end in itertools.pairwise(ends)]
        factor = (self._latest - ends[-1]) / later_seconds if later_seconds > 0 else None
        return dict(zip(names, [ends[-1], *parts, factor], strict=True))


def describe_speech(times: dict[str, Any]) -> str:
    """The latency as one line."""
    parts = ", ".join(f"{words} {times[name]:.3f}" for _, name, words in _STAGES)
    return f"first packet after {times['first_packet_seconds']:.3f} s: {parts}"
