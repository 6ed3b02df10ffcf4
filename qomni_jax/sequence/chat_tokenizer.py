"""The Thinker's tokenizer: the `tokenizer.json` of a released model, or one of its kind trained on a corpus."""

from collections.abc import Iterable, Sequence
import os

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from qomni_jax.sequence.special_tokens import SHOWN, SPECIAL_TOKENS
from qomni_jax.sequence.tokenizer import END_OF_TEXT, TextTokenizer, plain_text_tokenizer, save_whole

# Where Qwen's tokenizers part text before merging: contractions, words, single digits, punctuation, line ends, spaces.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class ChatTokenizer:
    """Byte-level BPE beside special tokens, which are reached by name alone (`TokenizerProtocol`).

    Text never gives a special id, even where it spells one: what a user types cannot close their turn.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._plain = plain_text_tokenizer(tokenizer)
        self._names = {index: token.content for index, token in tokenizer.get_added_tokens_decoder().items()}
        self._ids = {name: index for index, name in self._names.items()}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ChatTokenizer":
        """Reads the `tokenizer.json` of a released model, or one saved here. Raises ValueError naming the file."""
        try:
            return cls(Tokenizer.from_file(os.fspath(path)))
        except Exception as error:
            raise ValueError(f"tokenizer {os.fspath(path)}: accepted is a tokenizer.json ({error})") from None

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ()) -> "ChatTokenizer":
        """Learns merges from `texts` until `vocab_size` tokens; `SPECIAL_TOKENS` and `special_tokens` come first.

        Raises ValueError when `vocab_size` cannot hold the 256 bytes and the special tokens.
        """
        names = [*SPECIAL_TOKENS, *special_tokens]
        least = 256 + len(names)
        if vocab_size < least:
            raise ValueError(f"vocab_size = {vocab_size}: accepted is {least} (bytes and special tokens) or more")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[AddedToken(name, normalized=False, special=True) for name in names],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a `tokenizer.json`, whole or not at all."""
        save_whole(self._tokenizer, path)

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return self._tokenizer.get_vocab_size()

    def special(self, token: str) -> int:
        """The id of a special token. Raises ValueError for one that the tokenizer does not have."""
        if token not in self._ids:
            raise ValueError(f"special token {token!r}: accepted is one of {', '.join(sorted(self._ids))}")
        return self._ids[token]

    def encode_text(self, text: str) -> np.ndarray:
        """Ids `[T]` int32 of `text`, none of them special."""
        return np.array(self._plain.encode(text, add_special_tokens=False).ids, np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`. Tags such as `<tool_call>` and `<think>` are shown, other special tokens are left out."""
        pieces: list[str] = []
        run: list[int] = []
        for index in (int(i) for i in ids):
            name = self._names.get(index)
            if name is None:
                run.append(index)
                continue
            pieces += [self._plain.decode(run), name if name in SHOWN else ""]
            run = []
        return "".join([*pieces, self._plain.decode(run)])


def open_tokenizer(path: str | os.PathLike[str]) -> ChatTokenizer | TextTokenizer:
    """The tokenizer that a `tokenizer.json` is of: a `TextTokenizer` where it has that one's end of text.

    Raises ValueError naming the file when it is missing or none.
    """
    try:
        tokenizer = Tokenizer.from_file(os.fspath(path))
        return ChatTokenizer(tokenizer) if tokenizer.token_to_id(END_OF_TEXT) is None else TextTokenizer(tokenizer)
    except Exception as error:
        raise ValueError(f"tokenizer {os.fspath(path)}: accepted is a tokenizer.json ({error})") from None
