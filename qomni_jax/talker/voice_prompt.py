"""The Talker prompt of a voice: a reference clip with its transcript, a description, both, or neither.

`<|reference|>`, the transcript, the clip's codec frames, `<|description|>`, words, `<|speech|>`: what is not given is
left out. There is no table of speakers: a voice that training never heard is cloned from its clip.
"""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

import numpy as np

from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.talker.prompt import Prompt
from qomni_jax.talker.storage import StoredTalker
from qomni_jax.talker.style import describe_style, parse_style

REFERENCE, DESCRIPTION, SPEECH = "<|reference|>", "<|description|>", "<|speech|>"
VOICE_TOKENS = (REFERENCE, DESCRIPTION, SPEECH)  # for `TextTokenizer.train`


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """A clip of the voice: `text [T]` ids of what it says, without end-of-text, and its `codes [S, Q]`."""

    text: np.ndarray
    codes: np.ndarray


class Voice(NamedTuple):
    """What `inference.speech` asks for: the prompt, and the expected frames a mean text token."""

    prompt: Prompt
    rate: float


def encode_voice_prompt(
    tokenizer: TextTokenizer, num_codebooks: int, *, style: Sequence[str] = (), reference: Reference | None = None
) -> Prompt:
    """The steps of a prompt; `style` are words that `style.parse_style` gave.

    Raises ValueError for a tokenizer without `VOICE_TOKENS`.
    """

    def text(*ids: int) -> Prompt:
        return Prompt.of_text(ids, num_codebooks)

    prompt = text()
    if reference is not None:
        prompt += text(tokenizer.special(REFERENCE), *reference.text) + Prompt.of_frames(reference.codes)
    if style:
        prompt += text(tokenizer.special(DESCRIPTION), *tokenizer.encode_text(describe_style(style)))
    return prompt + text(tokenizer.special(SPEECH))


def make_voice(
    stored: StoredTalker, *, audio: np.ndarray | None = None, transcript: str | None = None, style: str = ""
) -> Voice:
    """The voice of a clip, or of a description such as `slow, soft`, or of both.

    `audio`, int16 or float `[n]` at the codec's rate, says what `transcript` has, and nothing else.

    Raises ValueError with one line for a clip without transcript or the reverse, one that is empty or too long for the
    Talker, and for a style word that is not accepted.
    """
    words = parse_style(style)
    if (audio is None) != (transcript is None):
        missing = "transcript" if transcript is None else "recording"
        raise ValueError(f"voice without its {missing}: accepted are a recording and its transcript, or neither")
    reference = None
    if audio is not None and transcript is not None:
        said = " ".join(transcript.split())
        reference = Reference(stored.tokenizer.encode_text(said), stored.codec.encode_audio([audio])[0])
        if not len(reference.text) or not len(reference.codes):
            what = "transcript" if len(reference.codes) else "recording"
            raise ValueError(f"voice with an empty {what}: accepted is a recording of speech and what is said in it")
    prompt = encode_voice_prompt(stored.tokenizer, stored.config.num_codebooks, style=words, reference=reference)
    if len(prompt) > stored.speech.max_prompt:
        frames = 0 if reference is None else len(reference.codes)
        seconds = frames / stored.codec.config.frame_rate
        raise ValueError(
            f"voice of {seconds:.1f} s and {len(prompt) - frames} text tokens makes a prompt of {len(prompt)} steps: "
            f"accepted are at most {stored.speech.max_prompt} (shorten the recording and its transcript)"
        )
    return Voice(prompt, expected_rate(stored, words, reference))


def expected_rate(stored: StoredTalker, style: Sequence[str] = (), reference: Reference | None = None) -> float:
    """Frames a mean text token: as the description says, else as in the reference, else the usual one."""
    speech = stored.speech
    if "slow" in style:
        return speech.slow_rate
    if "fast" in style:
        return speech.fast_rate
    if reference is None:
        return speech.usual_rate
    said = [*reference.text, stored.tokenizer.end_of_text]
    return float(len(reference.codes) / np.sum(stored.durations[said]))
