"""The Talker prompt: who speaks and how fast, as tokens before the stream."""

from collections.abc import Sequence

import numpy as np

from qomni_jax.sequence.tokenizer import UNKNOWN_VOICE, TextTokenizer

RATE_EDGES_WPM = (150, 190, 230)  # words a minute that part the four speaking rates of a prompt


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
