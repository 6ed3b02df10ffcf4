"""Greedy answers of a stored Thinker to prompts with media."""

from collections.abc import Sequence
from typing import Any

import jax

from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.text import TextGenerator
from qomni_jax.layers.language_model import unstack_language_model
from qomni_jax.sequence.example import Example
from qomni_jax.sequence.special_tokens import IM_END, PADDING
from qomni_jax.thinker import Thinker, place_media
from qomni_jax.thinker.storage import StoredThinker, Tokenizer

_ROUND_TO = 64  # tokens: few lengths keep the number of compiled programs small


class Answerer:
    """A Thinker that answers batches of prompts; an answer does not depend on its batch."""

    def __init__(self, stored: StoredThinker, params: Any, tokenizer: Tokenizer):
        self._config, self._params, self._tokenizer = stored.config, params, tokenizer
        self._language_model = unstack_language_model(stored.config.language_model, params["language_model"])
        thinker = Thinker(stored.config)
        self._encode = jax.jit(lambda params, media: thinker.apply({"params": params}, media, method=Thinker.encode))

    def answer(self, examples: Sequence[Example], new_tokens: int) -> list[str]:
        """The text of each answer, of at most `new_tokens` tokens (rounded up)."""
        media, slots = place_media(examples, self._config)
        prompts = [
            Prompt(example.sequence.tokens, example.sequence.positions, places)
            for example, places in zip(examples, slots, strict=True)
        ]
        new = _rounded(new_tokens)
        generator = TextGenerator(
            *self._language_model,
            capacity=_rounded(max(len(prompt.tokens) for prompt in prompts)) + new,
            stop_tokens=[self._tokenizer.special(IM_END), self._tokenizer.special(PADDING)],
        )
        features = None if media is None else self._encode(self._params, media)
        said = generator.generate(prompts, new, features=features)
        return [self._tokenizer.decode(tokens) for tokens in said]


def _rounded(tokens: int) -> int:
    return -(-tokens // _ROUND_TO) * _ROUND_TO
