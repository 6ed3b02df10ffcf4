"""What every tokenizer here can do, and the byte-pair encoding of the Talker, trained on a corpus."""

from collections.abc import Iterable, Sequence
import functools
import json
import os
from pathlib import Path
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|end_of_text|>"
UNKNOWN_VOICE = "<|voice|>"


class TokenizerProtocol(Protocol):
    """A tokenizer that keeps special tokens apart from text."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        ...

    def special(self, token: str) -> int:
        """The id of a special token. Raises ValueError for one that the tokenizer does not have."""
        ...

    def encode_text(self, text: str) -> np.ndarray:
        """Ids `[T]` int32 of `text`, none of them special: a special token's name in it is text like any other."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens left out."""
        ...


def plain_text_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """The same byte-pair encoding without added tokens, so that no text can spell one."""
    return Tokenizer.from_str(json.dumps({**json.loads(tokenizer.to_str()), "added_tokens": []}))


def save_whole(tokenizer: Tokenizer, path: str | os.PathLike[str]) -> None:
    """Writes a `tokenizer.json`, whole or not at all."""
    temporary = Path(f"{os.fspath(path)}.partial")
    tokenizer.save(os.fspath(temporary))
    os.replace(temporary, path)


class TextTokenizer:
    """The Talker's byte-level BPE. Ids are stable across save and load."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self.end_of_text = self.special(END_OF_TEXT)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ()) -> "TextTokenizer":
        """Learns merges from `texts` until `vocab_size` tokens, special ones included.

        Raises ValueError when `vocab_size` cannot hold the 256 bytes and the special tokens.
        """
        specials = [END_OF_TEXT, UNKNOWN_VOICE, *special_tokens]
        least = 256 + len(specials)
        if vocab_size < least:
            raise ValueError(f"vocab_size = {vocab_size}: accepted is {least} (bytes and special tokens) or more")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TextTokenizer":
        """Reads a `tokenizer.json`. Raises ValueError naming the file when it is missing or is not one of ours."""
        try:
            return cls(Tokenizer.from_file(os.fspath(path)))
        except Exception as error:
            raise ValueError(
                f"tokenizer {os.fspath(path)}: accepted is a tokenizer.json of this project ({error})"
            ) from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a `tokenizer.json`, whole or not at all."""
        save_whole(self._tokenizer, path)

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return self._tokenizer.get_vocab_size()

    def special(self, token: str) -> int:
        """The id of a special token. Raises ValueError for one that the tokenizer does not have."""
        index = self._tokenizer.token_to_id(token)
        if index is None:
            known = sorted(t for t in self._tokenizer.get_vocab() if t.startswith("<|"))
            raise ValueError(f"special token {token!r}: accepted is one of {', '.join(known)}")
        return index

    def encode(self, text: str) -> np.ndarray:
        """Token ids `[T]` int32 of `text`, then end-of-text."""
        return np.array([*self._tokenizer.encode(text).ids, self.end_of_text], np.int32)

    def encode_text(self, text: str) -> np.ndarray:
        """Token ids `[T]` int32 of `text` alone, none of them special."""
        return np.array(self._plain.encode(text).ids, np.int32)

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids `[T]` as `encode`, and the character `[T]` int32 at which each token starts (end-of-text: the length)."""
        encoding = self._tokenizer.encode(text)
        starts = [min(start + (text[start : start + 1] == " "), len(text)) for start, _ in encoding.offsets]
        return np.array([*encoding.ids, self.end_of_text], np.int32), np.array([*starts, len(text)], np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens left out."""
        return self._tokenizer.decode([int(i) for i in ids]).strip()

    @functools.cached_property
    def _plain(self) -> Tokenizer:
        return plain_text_tokenizer(self._tokenizer)
