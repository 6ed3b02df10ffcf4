"""Checkpoints on disk for the tests: those of the goldens, made whole, and variations of them."""

import json
import pathlib
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "goldens"
BASE = "qwen3_5_moe_text"
NAMES = ("qwen3_5_dense", "qwen3_5_moe_text", "qwen3_next")


def tensors_of(name: str) -> dict[str, np.ndarray]:
    """The tensors of a golden's checkpoint. Those that two goldens have in common are kept once, in `BASE`."""
    found = load_file(GOLDENS / name / "model.safetensors")
    if "equal_tensors_in" in json.loads((GOLDENS / name / "info.json").read_text()):
        grouped = name == "qwen3_next"
        base = load_file(GOLDENS / BASE / "model.safetensors")
        found |= {key: value for key, value in base.items() if key not in found and _belongs(key, name, grouped)}
    return found


def config_of(name: str) -> dict:
    """config.json of a golden's checkpoint."""
    return json.loads((GOLDENS / name / "config.json").read_text())


def write(directory: pathlib.Path, config: dict, tensors: dict[str, np.ndarray], shards: int = 1) -> pathlib.Path:
    """A released checkpoint, in one file or in several with an index."""
    write_config(directory, config)
    if shards == 1:
        save_file(tensors, directory / "model.safetensors", {"format": "pt"})
        return directory
    weight_map = {}
    for number in range(shards):
        part = {name: tensors[name] for name in sorted(tensors)[number::shards]}
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, directory / file, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


def write_config(directory: pathlib.Path, config: dict) -> None:
    """The directory with its config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))


def whole(name: str, directory: pathlib.Path) -> pathlib.Path:
    """A golden's checkpoint, complete, in `directory`."""
    return write(directory, config_of(name), tensors_of(name))


def with_head(directory: pathlib.Path) -> pathlib.Path:
    """The golden with a multi-token-prediction head: its weights beside the directory of the model they belong to."""
    shutil.copytree(GOLDENS / BASE, directory / BASE)
    shutil.copytree(GOLDENS / "qwen3_5_mtp", directory / "qwen3_5_mtp")
    return directory / "qwen3_5_mtp"


def fused(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One tensor for all experts of a layer, gate rows before up rows, in the place of three for each."""
    result = {name: value for name, value in tensors.items() if ".mlp.experts." not in name}
    for layer in sorted({name.split(".mlp.experts.")[0] for name in tensors if ".mlp.experts." in name}):
        start = f"{layer}.mlp.experts."
        count = sum(name.startswith(start) and name.endswith(".down_proj.weight") for name in tensors)
        gate, up, down = (
            [tensors[f"{start}{number}.{kind}_proj.weight"] for number in range(count)]
            for kind in ("gate", "up", "down")
        )
        result[start + "gate_up_proj"] = np.stack([np.concatenate(pair) for pair in zip(gate, up, strict=True)])
        result[start + "down_proj"] = np.stack(down)
    return result


def _belongs(key: str, name: str, grouped: bool) -> bool:
    """Whether a tensor of `BASE` is one of `name`'s: its projections are grouped, or its feed-forward is dense."""
    split = any(part in key for part in (".in_proj_qkv.", ".in_proj_z.", ".in_proj_b.", ".in_proj_a."))
    sparse = ".mlp." in key
    return not (split if grouped else sparse)
