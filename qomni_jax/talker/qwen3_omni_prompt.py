"""The prompt of Qwen3-Omni's Talker, out of the Thinker's prompt and the first word of its answer."""

import itertools
from typing import NamedTuple

import numpy as np

from qomni_jax.config.qwen3_omni_talker import CodecTokens, SpeechTokens

_HEAD = 3  # tokens of `<|im_start|>assistant\n`, with which the Thinker's prompt ends
ADDED_STEPS = 6  # by which the Talker's prompt is longer than the Thinker's, where nothing is left out


class TalkerPrompt(NamedTuple):
    """What the Talker reads before it speaks, T steps.

    Attributes:
      text: `[T]` int32, ids of the Thinker's vocabulary.
      codes: `[T]` int32, ids of the Talker's, added to the text; -1 for none.
      places: `[T]` int32, the token of the Thinker's prompt whose hidden state stands in the place of the text; -1 for
        text.
      positions: `[3, T]` time, height and width.
    """

    text: np.ndarray
    codes: np.ndarray
    places: np.ndarray
    positions: np.ndarray


def talker_prompt(
    tokens: np.ndarray,
    positions: np.ndarray,
    is_media: np.ndarray,
    first: int,
    speech: SpeechTokens,
    codec: CodecTokens,
    speaker: int,
) -> TalkerPrompt:
    """The turns of the user, and the start of the answer.

    System turns and earlier answers are left out; positions go on from one turn to the next as if they were not there.

    Args:
      tokens, positions, is_media: `[P]`, `[3, P]`, `[P]` of the Thinker's prompt, which ends where the answer begins.
      first: the first token of the answer. Those after it come one a frame (`inference.qwen3_omni_talker`).
      speaker: the voice, an id of the Talker's vocabulary.

    Raises ValueError for a prompt that does not begin with a turn or end with the head of an answer.
    """
    starts = np.flatnonzero(tokens == speech.im_start)
    if not len(starts) or starts[0] or starts[-1] != len(tokens) - _HEAD or tokens[starts[-1] + 1] != speech.assistant:
        raise ValueError(
            f"prompt of {len(tokens)} tokens for speech: accepted are whole turns from its first token on, and the "
            f"head of an answer, {_HEAD} tokens"
        )
    kept = np.zeros(len(tokens), bool)
    laid: list[np.ndarray] = []
    following = positions.dtype.type(0)
    for start, end in itertools.pairwise(starts):
        if tokens[start + 1] == speech.user:
            kept[start:end] = True
            laid.append(positions[:, start:end] - positions[:, start : start + 1] + following)
            following = laid[-1][:, -1].max() + 1
    special = (codec.nothink, codec.think_bos, codec.think_eos, speaker, codec.pad, codec.bos)
    pads = [speech.tts_pad] * (len(special) - 2)
    text = [*tokens[kept], *tokens[starts[-1] :], *pads, speech.tts_bos, first]
    codes = [-1] * (len(text) - len(special)) + list(special)
    rest = len(text) - int(np.sum(kept))
    laid.append(np.broadcast_to(following + np.arange(rest), (3, rest)))
    places = np.where(is_media, np.arange(len(tokens)), -1)[kept]
    return TalkerPrompt(
        np.array(text, np.int32),
        np.array(codes, np.int32),
        np.pad(places, (0, rest), constant_values=-1).astype(np.int32),
        np.concatenate(laid, axis=1).astype(positions.dtype),
    )
