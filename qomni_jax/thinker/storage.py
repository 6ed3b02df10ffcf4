"""A Thinker on disk: a directory with config.json, the parameters as an orbax checkpoint, and tokenizer.json.

config.json holds the configurations of the model, of the layout of its conversations, and of the features and images
that it reads: all that turns files and text into what it was trained on.
"""

from collections.abc import Mapping
import dataclasses
import os
from pathlib import Path
import typing
from typing import Any, NamedTuple

import jax

from qomni_jax.config.audio import AudioFeatureConfig
from qomni_jax.config.from_json import from_json
from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.vision import ImageConfig
from qomni_jax.layers.linear import unbox
from qomni_jax.sequence.assembly import PAD_OF
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer, open_tokenizer
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.storage.arrays import flat
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.storage.files import new_directory, read_json, write_json
from qomni_jax.storage.parameters import require_shapes, restore_parameters, save_parameters
from qomni_jax.thinker.model import init_thinker

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
_FORMAT, _VERSION = "qomni_jax thinker", 1

Tokenizer = ChatTokenizer | TextTokenizer


class StoredThinker(NamedTuple):
    """What config.json says of a Thinker.

    Attributes:
      config: the model.
      sequence: how its conversations are laid out.
      features: of the recordings that it hears.
      image: how images become the patches that it sees.
    """

    config: ThinkerConfig
    sequence: SequenceConfig
    features: AudioFeatureConfig
    image: ImageConfig

    @property
    def kinds(self) -> list[Kind]:
        """The media that it reads."""
        hears, sees = self.config.audio is not None, self.config.vision is not None
        return [Kind.AUDIO] * hears + [Kind.IMAGE, Kind.VIDEO] * sees


def save_thinker(
    directory: str | os.PathLike[str], stored: StoredThinker, params: Mapping[str, Any], tokenizer: Tokenizer | None
) -> None:
    """Writes a Thinker, whole or not at all, from one process that sees all of every array.

    `params` are those of `thinker.Thinker`, unboxed; `tokenizer` is None where there is none yet.

    Raises CheckpointError: there is something at `directory`, the parameters are not those of the config, the parts of
    `stored` do not fit together, or the tokenizer has more ids than the model or lacks the token of a medium.
    """
    with new_directory(Path(directory)) as partial:
        write_thinker(partial, stored, params, tokenizer)


def write_thinker(
    directory: Path, stored: StoredThinker, params: Mapping[str, Any], tokenizer: Tokenizer | None
) -> None:
    """The files of `save_thinker` in a directory that is there, beside what else is to be in it; errors as there."""
    _require_fit(stored, "StoredThinker")
    if tokenizer is not None:
        _require_tokens(stored, tokenizer)
    require_shapes("parameters of the Thinker", flat(params), parameter_shapes(stored.config))
    save_parameters(directory, params)
    parts = {name: dataclasses.asdict(part) for name, part in stored._asdict().items()}
    write_json(directory / CONFIG, {"format": _FORMAT, "version": _VERSION, **parts})
    if tokenizer is not None:
        tokenizer.save(directory / TOKENIZER)


def load_thinker(
    directory: str | os.PathLike[str], *, dtype: Any = None, shardings: Mapping[str, Any] | None = None
) -> tuple[StoredThinker, dict[str, Any], Tokenizer | None]:
    """What `save_thinker` wrote; the tokenizer is None where none was given.

    `dtype` is that of all parameters, None keeps theirs; `shardings` is a tree like the parameters, None puts all on
    the first device.

    Raises CheckpointError naming the file that is absent, damaged, or of another format.
    """
    path = Path(directory)
    stored = describe_thinker(path)
    tokenizer = stored_tokenizer(path)
    return stored, load_thinker_parameters(path, stored.config, dtype=dtype, shardings=shardings), tokenizer


def load_thinker_parameters(
    directory: Path,
    config: ThinkerConfig,
    *,
    part: str = "",
    dtype: Any = None,
    shardings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The parameters alone, or those of a `part`, such as `language_model`; otherwise as `load_thinker`."""
    shapes = parameter_shapes(config)
    return restore_parameters(directory, shapes, part=part, dtype=dtype, shardings=shardings)


def is_thinker(directory: str | os.PathLike[str]) -> bool:
    """Whether a directory holds a Thinker of ours, of whatever version."""
    path = Path(directory) / CONFIG
    return path.is_file() and read_json(path).get("format") == _FORMAT


def describe_thinker(directory: str | os.PathLike[str]) -> StoredThinker:
    """Its config.json; reads no weights. Raises CheckpointError where it is not what `save_thinker` wrote."""
    path = Path(directory) / CONFIG
    text = read_json(path)
    for name, accepted in (("format", _FORMAT), ("version", _VERSION)):
        if text.get(name) != accepted:
            raise CheckpointError(f"{path}: {name} = {text.get(name)!r}: accepted is {accepted!r}")
    try:
        parts = {name: from_json(kind, text.get(name)) for name, kind in typing.get_type_hints(StoredThinker).items()}
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    stored = StoredThinker(**parts)
    _require_fit(stored, str(path))
    return stored


def stored_tokenizer(directory: Path) -> Tokenizer | None:
    """The tokenizer in a directory, None where there is none. Raises CheckpointError for a damaged one."""
    if not (directory / TOKENIZER).is_file():
        return None
    try:
        return open_tokenizer(directory / TOKENIZER)
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def parameter_shapes(config: ThinkerConfig) -> dict[str, tuple[int, ...]]:
    """Path (`language_model/decoder/norm`) -> shape of every parameter."""
    tree = jax.eval_shape(lambda: unbox(init_thinker(config, jax.random.key(0))))
    return {path: leaf.shape for path, leaf in flat(tree).items()}


def _require_fit(stored: StoredThinker, source: str) -> None:
    """Raises CheckpointError where features or images are not what the encoders read."""
    audio, vision = stored.config.audio, stored.config.vision
    pairs: list[tuple[str, int, str, int]] = []
    if audio is not None:
        pairs.append(("features.num_mels", stored.features.num_mels, "config.audio.num_mels", audio.num_mels))
    if vision is not None:
        for name in ("patch_size", "merge_size", "temporal_patch_size"):
            pairs.append((f"image.{name}", getattr(stored.image, name), f"config.vision.{name}", getattr(vision, name)))
        merged = stored.sequence.spatial_merge
        pairs.append(("sequence.spatial_merge", merged, "config.vision.merge_size", vision.merge_size))
    for name, value, other, accepted in pairs:
        if value != accepted:
            raise CheckpointError(f"{source}: {name} = {value}: accepted is {other}, {accepted}")


def _require_tokens(stored: StoredThinker, tokenizer: Tokenizer) -> None:
    """Raises CheckpointError for a tokenizer that the model cannot have been trained with."""
    size = stored.config.language_model.vocab_size
    if tokenizer.vocab_size > size:
        raise CheckpointError(f"tokenizer of {tokenizer.vocab_size} ids: accepted are at most {size} (vocab_size)")
    try:
        for kind in stored.kinds:
            tokenizer.special(PAD_OF[kind])
    except ValueError as error:
        raise CheckpointError(f"tokenizer: {error}") from None
