"""A Talker on disk: a directory with config.json, parameters (orbax), tokenizer.json, and its codec in `codec`.

Everything that is needed to speak is in it: what the model is and how its stream is laid out, how long text tokens
last, and the lengths that it was trained on.
"""

from collections.abc import Mapping
import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qomni_jax.codec import Codec
from qomni_jax.config.from_json import from_json
from qomni_jax.config.talker import InterleaverConfig, TalkerConfig
from qomni_jax.config.validation import check_types, require, require_positive
from qomni_jax.layers.linear import unbox
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.storage.arrays import flat
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.storage.files import new_directory, read_json, write_json
from qomni_jax.storage.parameters import require_shapes, restore_parameters, save_parameters
from qomni_jax.talker.talker import init_talker

CONFIG, TOKENIZER, CODEC = "config.json", "tokenizer.json", "codec"
_FORMAT, _VERSION = "qomni_jax talker", 1


@dataclasses.dataclass(frozen=True)
class SpeechConfig:
    """What a trained Talker expects of speech.

    Attributes:
      durations: of each text token, in mean tokens.
      slow_rate, usual_rate, fast_rate: frames a mean text token when speech is described as slow, not described, and
        described as fast.
      max_prompt, max_text: stream steps of the longest prompt, and text tokens of the longest utterance.
    """

    durations: tuple[float, ...]
    slow_rate: float
    usual_rate: float
    fast_rate: float
    max_prompt: int
    max_text: int

    def __post_init__(self) -> None:
        check_types(self)
        require(min(self.durations, default=0.0) > 0, self, "durations", "numbers greater than 0, one a text token")
        require_positive(self, "slow_rate", "usual_rate", "fast_rate", "max_prompt", "max_text")


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTalker:
    """A Talker with everything that it needs to speak; `params` are those of `talker.Talker`, unboxed."""

    config: TalkerConfig
    interleaver: InterleaverConfig
    speech: SpeechConfig
    params: Mapping[str, Any] = dataclasses.field(repr=False)
    tokenizer: TextTokenizer
    codec: Codec

    @property
    def durations(self) -> np.ndarray:
        """Float32 `[text vocabulary]`, of each text token, in mean tokens."""
        return np.asarray(self.speech.durations, np.float32)


def save_talker(directory: str | os.PathLike[str], stored: StoredTalker) -> None:
    """Writes a Talker, whole or not at all.

    Raises CheckpointError: there is something at `directory`, or the parts do not fit together.
    """
    _require_fit(stored, "StoredTalker")
    with new_directory(Path(directory)) as partial:
        save_parameters(partial, stored.params)
        stored.tokenizer.save(partial / TOKENIZER)
        stored.codec.save(partial / CODEC)
        parts = {name: dataclasses.asdict(getattr(stored, name)) for name in ("config", "interleaver", "speech")}
        write_json(partial / CONFIG, {"format": _FORMAT, "version": _VERSION, **parts})


def open_talker(directory: str | os.PathLike[str]) -> StoredTalker:
    """What `save_talker` wrote.

    Raises CheckpointError naming the file that is absent, damaged, or of another format.
    """
    path = Path(directory)
    text = read_json(path / CONFIG)
    for name, accepted in (("format", _FORMAT), ("version", _VERSION)):
        if text.get(name) != accepted:
            raise CheckpointError(f"{path / CONFIG}: {name} = {text.get(name)!r}: accepted is {accepted!r}")
    try:
        config = from_json(TalkerConfig, text.get("config"))
        interleaver = from_json(InterleaverConfig, text.get("interleaver"))
        speech = from_json(SpeechConfig, text.get("speech"))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path / CONFIG}: {error}") from None
    try:
        tokenizer = TextTokenizer.load(path / TOKENIZER)
        codec = Codec.load(path / CODEC)
    except (ValueError, OSError) as error:
        raise CheckpointError(str(error)) from None
    params = restore_parameters(path, parameter_shapes(config))
    stored = StoredTalker(config, interleaver, speech, params, tokenizer, codec)
    _require_fit(stored, str(path))
    return stored


def parameter_shapes(config: TalkerConfig) -> dict[str, tuple[int, ...]]:
    """Path (`backbone/norm`) -> shape of every parameter."""
    tree = jax.eval_shape(lambda: unbox(init_talker(config, jax.random.key(0))))
    return {path: leaf.shape for path, leaf in flat(tree).items()}


def _require_fit(stored: StoredTalker, source: str) -> None:
    """Raises CheckpointError where one part is not made for another."""
    config, quantizer = stored.config, stored.codec.config.rvq
    for name, value, other, accepted in (
        ("tokenizer ids", stored.tokenizer.vocab_size, "config.text_vocab_size", config.text_vocab_size),
        ("durations", len(stored.speech.durations), "config.text_vocab_size", config.text_vocab_size),
        ("codec codebooks", quantizer.num_codebooks, "config.num_codebooks", config.num_codebooks),
        ("codec entries", quantizer.codebook_size, "config.codebook_size", config.codebook_size),
    ):
        if value != accepted:
            raise CheckpointError(f"{source}: {value} {name}: accepted is {other}, {accepted}")
    require_shapes(f"{source}: parameters", flat(stored.params), parameter_shapes(config))
