"""The Talker's system prompt: stream steps before what is said, and the shortest one, a named voice and its rate.

Qwen3.5-Omni's report (arXiv 2604.15804): a Talker system prompt holds text descriptions and codec sequences of the
voice. `talker.voice_prompt` makes such prompts; those of the study are two tokens.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from qomni_jax.sequence.tokenizer import UNKNOWN_VOICE, TextTokenizer

RATE_EDGES_WPM = (150, 190, 230)  # words a minute that part the four speaking rates of a prompt


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """P stream steps: `text [P]` int32 ids, -1 for none; `codes [P, Q]` int32, -1 in a step without a frame."""

    text: np.ndarray
    codes: np.ndarray

    @classmethod
    def of_text(cls, ids: Sequence[int] | np.ndarray, num_codebooks: int) -> "Prompt":
        """Text ids `[P]`, a step each."""
        text = np.asarray(ids, np.int32)
        return cls(text, np.full((len(text), num_codebooks), -1, np.int32))

    @classmethod
    def of_frames(cls, codes: np.ndarray) -> "Prompt":
        """Codec frames `[P, Q]`, a step each."""
        return cls(np.full(len(codes), -1, np.int32), np.asarray(codes, np.int32))

    def __add__(self, other: "Prompt") -> "Prompt":
        return Prompt(np.concatenate([self.text, other.text]), np.concatenate([self.codes, other.codes]))

    def __len__(self) -> int:
        return len(self.text)

    @property
    def has_frame(self) -> np.ndarray:
        """Which steps hold a frame, bool `[P]`."""
        return np.any(self.codes >= 0, axis=1)


def as_prompt(prompt: np.ndarray | Prompt, num_codebooks: int) -> Prompt:
    """A prompt of text alone may be given by its ids."""
    return prompt if isinstance(prompt, Prompt) else Prompt.of_text(prompt, num_codebooks)


def prompt_tokens(voices: Sequence[str]) -> list[str]:
    """The special tokens that prompts for `voices` need, for `TextTokenizer.train`."""
    return [voice_token(voice) for voice in voices] + [rate_token(bucket) for bucket in range(len(RATE_EDGES_WPM) + 1)]


def voice_token(voice: str) -> str:
    """The token of a named voice."""
    return f"<|voice:{voice}|>"


def rate_token(bucket: int) -> str:
    """The token of a speaking rate, 0 the slowest."""
    return f"<|rate:{bucket}|>"


def rate_bucket(rate_wpm: float) -> int:
    """The speaking rate, 0..3, of so many words a minute."""
    return int(np.searchsorted(RATE_EDGES_WPM, rate_wpm, side="right"))


def encode_prompt(tokenizer: TextTokenizer, voice: str | None, rate_wpm: float) -> np.ndarray:
    """Prompt ids `[2]` int32 for a voice (None: unknown) and a rate in words a minute.

    Raises ValueError for a voice that the tokenizer has no token for.
    """
    voice_id = tokenizer.special(UNKNOWN_VOICE if voice is None else voice_token(voice))
    return np.array([voice_id, tokenizer.special(rate_token(rate_bucket(rate_wpm)))], np.int32)
