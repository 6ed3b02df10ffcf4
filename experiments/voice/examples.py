"""Utterances of many voices, and the prompts from which each can be said."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from experiments.talker_batches import with_expected_times
from experiments.voice.config import VoicePromptConfig
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.talker.batch import Utterance
from qomni_jax.talker.prompt import Prompt
from qomni_jax.talker.style import ATTRIBUTES, attribute_of
from qomni_jax.talker.voice_prompt import Reference, encode_voice_prompt

_FIELDS = {"rate": "rate_wpm", "pitch": "pitch", "level": "level"}


class VoiceExamples:
    """The utterances of a split in codes, with a prompt drawn for each.

    A description is any part of what may be said of the utterance; its reference is another of the same voice, like it
    in all that is not described.
    """

    def __init__(
        self,
        records: Iterable[dict[str, Any]],
        tokenizer: TextTokenizer,
        durations: np.ndarray,
        config: VoicePromptConfig,
        frame_rate: float,
    ):
        """`durations` of text tokens, in mean tokens; `frame_rate` codec frames a second.

        Raises ValueError for a voice with a single utterance.
        """
        self.records = list(records)
        self.config, self._tokenizer = config, tokenizer
        self._num_codebooks = self.records[0]["codes"].shape[1]
        self._least, self._most = config.min_seconds * frame_rate, config.max_seconds * frame_rate
        empty = Prompt.of_text((), self._num_codebooks)
        self.utterances = [
            with_expected_times(
                Utterance(empty, tokenizer.encode(record["text"]), record["codes"].astype(np.int32)), durations
            )
            for record in self.records
        ]
        self.styles = np.array([[record[_FIELDS[name]] for name in ATTRIBUTES] for record in self.records], float)
        self._scale = np.maximum(np.ptp(self.styles, axis=0), 1.0)
        members: dict[str, list[int]] = {}
        for index, record in enumerate(self.records):
            members.setdefault(record["voice"], []).append(index)
        self.members = {voice: np.array(indices) for voice, indices in members.items()}
        for voice, indices in self.members.items():
            if len(indices) < 2:
                raise ValueError(f"voice {voice!r} has 1 utterance: accepted are 2 or more, one to be the reference")

    def draw(self, index: int, rng: np.random.Generator) -> Utterance:
        """Utterance `index` with a prompt of its own."""
        with_reference = rng.random() < self.config.reference_share
        words: tuple[str, ...] = ()
        possible = self.config.words(tuple(self.styles[index].tolist()))
        if rng.random() < self.config.description_share and possible:
            words = tuple(rng.permutation(possible)[: rng.integers(1, len(possible) + 1)])
        reference = self.reference(self.reference_of(index, words, rng)) if with_reference else None
        prompt = encode_voice_prompt(self._tokenizer, self._num_codebooks, style=words, reference=reference)
        if len(prompt) > self.config.max_steps:
            raise ValueError(f"prompt of {len(prompt)} steps: accepted is max_steps, {self.config.max_steps}, or less")
        return self.utterances[index]._replace(prompt=prompt)

    def reference_of(self, index: int, words: Sequence[str], rng: np.random.Generator) -> list[int]:
        """Utterances of the same voice that make a reference for one that is described by `words`."""
        others = self.members[self.records[index]["voice"]]
        others = rng.permutation(others[others != index])
        said = [ATTRIBUTES.index(attribute_of(word)) for word in words]
        distances = np.abs(self.styles[others] - self.styles[index]) / self._scale
        distances[:, said] = 0.0
        order = np.argsort(distances.sum(axis=1), kind="stable")
        near = rng.permutation(order[: self.config.candidates])
        chosen: list[int] = []
        frames = 0
        for other in others[np.concatenate([near, order[self.config.candidates :]])]:
            size = len(self.utterances[other].codes)
            if not chosen or (frames < self._least and frames + size <= self._most):
                chosen.append(int(other))
                frames += size
            if frames >= self._least:
                break
        return chosen

    def reference(self, indices: Sequence[int]) -> Reference:
        """These utterances, one after the other, as one clip."""
        text = self._tokenizer.encode_text(self.transcript(indices))
        return Reference(text, np.concatenate([self.utterances[index].codes for index in indices]))

    def transcript(self, indices: Sequence[int]) -> str:
        """What these utterances say."""
        return " ".join(self.records[index]["text"] for index in indices)
