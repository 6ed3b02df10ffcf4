"""Our arrays into safetensors files that transformers loads."""

from collections.abc import Iterator, Mapping, Sequence
import json
from pathlib import Path
from typing import Any

import numpy as np

from qomni_jax.interop.arrays import flat, read, require_complete
from qomni_jax.interop.families import CONFIG_DTYPES, released_config
from qomni_jax.interop.key_map import Rule, key_map
from qomni_jax.interop.load import block_ranges
from qomni_jax.interop.released import INDEX, SINGLE
from qomni_jax.interop.safetensors_file import DTYPES, NAMES, TensorInfo, write
from qomni_jax.interop.storage import Description, new_directory


def export(
    path: Path, description: Description, parameters: Mapping[str, Any], *, max_shard_bytes: int = 5 << 30
) -> list[str]:
    """Writes config.json and the weights, in several files with an index where one would exceed `max_shard_bytes`.

    Returns the names of the files. Raises CheckpointError when `path` exists, or when the parameters are not those of
    the description's config.
    """
    leaves = flat(parameters)
    rules = key_map(description.config, description.family, description.layout)
    require_complete(f"parameters for {path}", leaves, rules)
    infos = {
        name: TensorInfo(NAMES[np.dtype(leaves[rule.parts[0].leaf].dtype)], rule.shape) for name, rule in rules.items()
    }
    shards = _shards(infos, max_shard_bytes)
    with new_directory(path) as directory:
        for file, names in shards.items():
            write(directory / file, {name: infos[name] for name in names}, _blocks(leaves, [rules[n] for n in names]))
        if len(shards) > 1:
            total = sum(info.size * DTYPES[info.dtype].itemsize for info in infos.values())
            index = {
                "metadata": {"total_size": total},
                "weight_map": {name: file for file, names in shards.items() for name in names},
            }
            _write_json(directory / INDEX, index)
        stored = next(iter(infos.values())).dtype
        dtype = next(name for name, known in CONFIG_DTYPES.items() if known == stored)
        _write_json(
            directory / "config.json",
            released_config(description.config, description.family, description.text, dtype),
        )
    return list(shards)


def gather(rule: Rule, leaves: Mapping[str, Any], first: int, last: int) -> np.ndarray:
    """The groups `first..last` of a released tensor, out of our arrays."""
    return rule.join([read(leaves[leaf], place, shape) for leaf, place, shape in rule.places(first, last)])


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


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
