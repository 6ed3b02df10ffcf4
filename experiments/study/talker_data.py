"""Utterances in codes as Talker batches."""

import dataclasses
import itertools
from typing import Any

import numpy as np

from data_pipelines.speech_codes.codes import Codes
from experiments.talker_batches import TalkerBatches, with_expected_times
from qomni_jax.config.talker import TalkerConfig
from qomni_jax.config.training import TalkerTrainingConfig
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.talker.batch import Utterance
from qomni_jax.talker.interleaver import Interleaver, TextTimes
from qomni_jax.talker.prompt import encode_prompt

PROMPT_LENGTH = 2  # a voice and a rate


def to_utterance(record: dict[str, Any], tokenizer: TextTokenizer, frame_rate: float) -> Utterance:
    """A record of the codes dataset (`frame_rate` codec frames a second) as tokens, with the frame at which each text
    token's word starts."""
    text, starts = tokenizer.encode_with_offsets(record["text"])
    words = record["words"]
    word = np.clip(np.searchsorted(words["char_start"], starts, side="right") - 1, 0, None)
    times = np.append(words["start_s"][word[:-1]] * frame_rate, len(record["codes"]))
    prompt = encode_prompt(tokenizer, record["voice"], record["rate_wpm"])
    return Utterance(prompt, text, record["codes"].astype(np.int32), TextTimes(spoken=times))


@dataclasses.dataclass
class TalkerData:
    """The training data of one arm: the same utterances in the same order whatever the scheme."""

    codes: Codes
    splits: tuple[str, ...]
    tokenizer: TextTokenizer
    interleaver: Interleaver
    talker: TalkerConfig
    training: TalkerTrainingConfig
    frame_rate: float  # codec frames a second
    durations: np.ndarray  # of each text token, as `token_durations` gives them

    def __post_init__(self) -> None:
        records = list(itertools.chain.from_iterable(self.codes.split(split) for split in self.splits))
        utterances = (to_utterance(record, self.tokenizer, self.frame_rate) for record in records)
        self.utterances = [with_expected_times(utterance, self.durations) for utterance in utterances]
        self._unknown_voice = [encode_prompt(self.tokenizer, None, record["rate_wpm"]) for record in records]
        batches = TalkerBatches(
            self.utterances, self._draw, PROMPT_LENGTH, self.interleaver, self.talker, self.training
        )
        self.shape, self.loader = batches.shape, batches.loader

    def _draw(self, index: int, rng: np.random.Generator) -> Utterance:
        """The utterance, now and then as said by an unknown voice."""
        item = self.utterances[index]
        if rng.random() >= self.training.voice_dropout:
            return item
        return item._replace(prompt=self._unknown_voice[index])


def word_of_token(record: dict[str, Any], tokenizer: TextTokenizer) -> list[int]:
    """The word (its index in the text) of each text token but end-of-text, `[T - 1]`."""
    text = record["text"]
    _, starts = tokenizer.encode_with_offsets(text)
    word_starts = [0] + [index + 1 for index, letter in enumerate(text) if letter == " "]
    return [int(word) for word in np.searchsorted(word_starts, starts[:-1], side="right") - 1]
