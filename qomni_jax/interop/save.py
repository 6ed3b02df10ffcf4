"""Our arrays into safetensors files that transformers loads."""

from collections.abc import Iterator, Mapping, Sequence
import os
from pathlib import Path
from typing import Any

import numpy as np

from qomni_jax.interop.families import CONFIG_DTYPES, released_config
from qomni_jax.interop.key_map import Rule, key_map, leaf_shapes
from qomni_jax.interop.load import block_ranges
from qomni_jax.interop.released import INDEX, SINGLE
from qomni_jax.interop.safetensors_file import DTYPES, NAMES, TensorInfo, write
from qomni_jax.interop.speech_form import SpeechForm
from qomni_jax.interop.storage import Description
from qomni_jax.interop.talker_model import OpenedQwen3Omni
from qomni_jax.interop.thinker_config import released_thinker_config
from qomni_jax.interop.thinker_form import ThinkerForm, below
from qomni_jax.interop.thinker_model import OpenedThinker, copy_companions
from qomni_jax.storage.arrays import flat, read
from qomni_jax.storage.files import new_directory, write_json
from qomni_jax.storage.parameters import require_shapes

_WHOLE_ARCHITECTURE = "Qwen3OmniMoeForConditionalGeneration"


def export(
    path: Path, description: Description, parameters: Mapping[str, Any], *, max_shard_bytes: int = 5 << 30
) -> list[str]:
    """Writes config.json and the weights, in several files with an index where one would exceed `max_shard_bytes`.

    Returns the names of the files. Raises CheckpointError when `path` exists, or when the parameters are not those of
    the description's config.
    """
    leaves = flat(parameters)
    rules = key_map(description.config, description.family, description.layout)
    require_shapes(f"parameters for {path}", leaves, leaf_shapes(rules))
    config = released_config(description.config, description.family, description.text, _dtype(leaves, rules))
    with new_directory(path) as directory:
        return _write(directory, config, leaves, rules, max_shard_bytes)


def export_thinker(
    path: Path,
    opened: OpenedThinker,
    form: ThinkerForm,
    parameters: Mapping[str, Any],
    source: str | os.PathLike[str],
    *,
    max_shard_bytes: int = 5 << 30,
) -> list[str]:
    """The same for a whole Thinker, with the files of tokenizer and processor that stand beside `source`.

    Raises CheckpointError as `export`, and where an id that config.json tells is not known.
    """
    leaves = flat(parameters)
    rules = form.rules(opened.stored.config)
    require_shapes(f"parameters for {path}", leaves, leaf_shapes(rules))
    config = released_thinker_config(opened.stored, form, _dtype(leaves, rules), opened.tokenizer)
    with new_directory(path) as directory:
        files = _write(directory, config, leaves, rules, max_shard_bytes)
        copy_companions(source, directory)
        return files


def export_speech_part(
    path: Path,
    form: SpeechForm,
    parameters: Mapping[str, Any],
    source: str | os.PathLike[str] | None,
    *,
    max_shard_bytes: int = 5 << 30,
) -> list[str]:
    """The same for a Talker or a codec, `form` being that of it alone; `source` is None where no files go with it."""
    leaves = flat(parameters)
    rules = form.rules()
    require_shapes(f"parameters for {path}", leaves, leaf_shapes(rules))
    with new_directory(path) as directory:
        files = _write(directory, form.released_config(_dtype(leaves, rules)), leaves, rules, max_shard_bytes)
        if source is not None:
            copy_companions(source, directory)
        return files


def export_qwen3_omni(
    path: Path,
    opened: OpenedQwen3Omni,
    form: ThinkerForm,
    parameters: Mapping[str, Any],
    source: str | os.PathLike[str],
    *,
    max_shard_bytes: int = 5 << 30,
) -> list[str]:
    """The same for a whole Qwen3-Omni, `form` being that of its Thinker inside of it."""
    leaves = flat(parameters)
    forms = opened.forms
    rules = below("thinker/", form.rules(opened.thinker.stored.config))
    rules |= below("talker/", forms.talker.rules()) | below("codec/", forms.codec.rules())
    require_shapes(f"parameters for {path}", leaves, leaf_shapes(rules))
    dtype = _dtype(leaves, rules)
    thinker = released_thinker_config(opened.thinker.stored, form, dtype, opened.thinker.tokenizer)
    parts = {"thinker_config": thinker, "talker_config": forms.talker.fields, "code2wav_config": forms.codec.fields}
    config = {
        **forms.config,
        "architectures": [_WHOLE_ARCHITECTURE],
        "model_type": form.family.outer_type,
        "dtype": dtype,
        **{part: _inner(fields) for part, fields in parts.items()},
    }
    config.pop("torch_dtype", None)
    with new_directory(path) as directory:
        files = _write(directory, dict(sorted(config.items())), leaves, rules, max_shard_bytes)
        copy_companions(source, directory)
        return files


def gather(rule: Rule, leaves: Mapping[str, Any], first: int, last: int) -> np.ndarray:
    """The groups `first..last` of a released tensor, out of our arrays."""
    return rule.join([read(leaves[leaf], place, shape) for leaf, place, shape in rule.places(first, last)])


def _write(
    directory: Path,
    config: Mapping[str, Any],
    leaves: Mapping[str, Any],
    rules: Mapping[str, Rule],
    max_shard_bytes: int,
) -> list[str]:
    infos = {
        name: TensorInfo(NAMES[np.dtype(leaves[rule.parts[0].leaf].dtype)], rule.shape) for name, rule in rules.items()
    }
    shards = _shards(infos, max_shard_bytes)
    for file, names in shards.items():
        write(directory / file, {name: infos[name] for name in names}, _blocks(leaves, [rules[n] for n in names]))
    if len(shards) > 1:
        total = sum(info.size * DTYPES[info.dtype].itemsize for info in infos.values())
        index = {
            "metadata": {"total_size": total},
            "weight_map": {name: file for file, names in shards.items() for name in names},
        }
        write_json(directory / INDEX, index)
    write_json(directory / "config.json", config)
    return list(shards)


def _inner(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a part alone as it stands in that of the whole, which tells the type of all weights."""
    return {name: value for name, value in fields.items() if name not in ("architectures", "dtype", "torch_dtype")}


def _dtype(leaves: Mapping[str, Any], rules: Mapping[str, Rule]) -> str:
    """The type of the first array, the embedding, as config.json names it."""
    stored = NAMES[np.dtype(leaves[next(iter(rules.values())).parts[0].leaf].dtype)]
    return next(name for name, known in CONFIG_DTYPES.items() if known == stored)


def _blocks(leaves: Mapping[str, Any], rules: Sequence[Rule]) -> Iterator[np.ndarray]:
    for rule in rules:
        for first, last in block_ranges(rule, leaves[rule.parts[0].leaf].dtype.itemsize):
            yield gather(rule, leaves, first, last)


def _shards(infos: Mapping[str, TensorInfo], max_bytes: int) -> dict[str, list[str]]:
    """Names of files and of the tensors in them; a tensor larger than `max_bytes` has a file to itself."""
    groups: list[list[str]] = [[]]
    used = 0
    for name, info in infos.items():
        size = info.size * DTYPES[info.dtype].itemsize
        if groups[-1] and used + size > max_bytes:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += size
    if len(groups) == 1:
        return {SINGLE: groups[0]}
    return {f"model-{number:05d}-of-{len(groups):05d}.safetensors": names for number, names in enumerate(groups, 1)}
