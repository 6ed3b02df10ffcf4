"""Imports run one way, libraries stay in their rooms, and no tracked file names a path of somebody's machine."""

import ast
from collections.abc import Iterator
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What each room may import of this project, besides itself. A room that is not listed fails: give it a place here.
BASE = {"config", "ops"}
PARTS = BASE | {"layers", "sequence", "parallel", "audio", "vision", "codec", "storage"}
MODELS = PARTS | {"thinker", "talker"}
USES = MODELS | {"sizes", "training", "inference", "interop"}
ALLOWED: dict[str, set[str]] = {
    "config": set(),
    "sizes": {"config"},
    "ops": set(),
    "storage": set(),
    "parallel": {"config", "ops"},
    "sequence": {"config", "ops"},
    "layers": BASE | {"parallel"},
    "audio": BASE | {"layers", "parallel"},
    "vision": BASE | {"layers", "parallel"},
    "codec": BASE | {"layers", "parallel", "audio"},
    "thinker": PARTS,
    "talker": PARTS,
    "training": MODELS,
    "inference": MODELS,
    "interop": MODELS | {"inference"},
    "serving": USES,
    "data_pipelines": BASE | {"sequence", "audio", "vision"},
    "tpu_scripts": USES | {"experiments", "data_pipelines"},
    "experiments": USES | {"serving", "data_pipelines"},
}
# The rooms that may import a library; every other room may not.
LIBRARY_ROOMS = {
    "flax": set(ALLOWED) - {"ops", "config", "sizes", "storage", "sequence", "data_pipelines"},
    "av": {"data_pipelines"},
    "gin": {"config", "experiments"},
    "grain": {"data_pipelines"},
    "tensorflow_datasets": {"data_pipelines"},
    "safetensors": {"interop"},
    "torch": set(),
    "transformers": set(),
    "tensorflow": set(),
}
# The reference of the benchmarks runs in an interpreter of its own, which nothing else of this project is loaded into.
PEER_MODULES, PEER_LIBRARIES = "experiments.bench.peer_", {"torch", "transformers"}


def room_of(module: str) -> str | None:
    """`qomni_jax.ops.rotary` -> `ops`, `experiments.judge` -> `experiments`, the package and strangers -> None."""
    parts = module.split(".")
    if parts[0] == "qomni_jax":
        return parts[1] if len(parts) > 1 else None
    return parts[0] if parts[0] in ALLOWED else None


def imports_of(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Every module that the source imports, at any depth, relative imports resolved; `from a import b` gives both."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What the module imports against the rules, one line each."""
    room = room_of(module)
    if room is None:
        return []
    if room not in ALLOWED:
        return [f"{module}: the room {room} has no place in tests/test_layering.py"]
    found = set()
    for target in imports_of(source, module, is_package):
        other = room_of(target)
        if other in ALLOWED and other != room and other not in ALLOWED[room]:
            found.add(f"{module} imports {other}; {room} may import: {', '.join(sorted(ALLOWED[room])) or 'nothing'}")
        library = target.split(".")[0]
        is_peer = module.startswith(PEER_MODULES) and library in PEER_LIBRARIES
        if library in LIBRARY_ROOMS and room not in LIBRARY_ROOMS[library] and not is_peer:
            allowed = ", ".join(sorted(LIBRARY_ROOMS[library])) or "no room"
            found.add(f"{module} imports {library}; accepted in: {allowed}")
    return sorted(found)


def modules() -> list[tuple[str, pathlib.Path]]:
    """(dotted name, file) of every module of the project's packages."""
    found = []
    for package in ("qomni_jax", "data_pipelines", "experiments", "tpu_scripts"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def test_imports_run_one_way():
    found = []
    for module, path in modules():
        found += violations(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "module", "count"),
    [
        ("from qomni_jax.layers import moe", "qomni_jax.ops.rotary", 1),
        ("import flax.linen as nn", "qomni_jax.ops.rotary", 1),
        ("from qomni_jax import talker", "qomni_jax.training.loop", 0),
        ("from qomni_jax import serving", "qomni_jax.training.loop", 1),
        ("from ..thinker import Thinker", "qomni_jax.codec.rvq", 1),
        ("from .rvq import quantise", "qomni_jax.codec.decoder", 0),
        ("def f():\n    import grain", "qomni_jax.training.loop", 1),
        ("import gin", "experiments.train", 0),
        ("from av.container import InputContainer", "qomni_jax.audio.features", 1),
        ("import torch", "experiments.bench.decoder", 1),
        ("import torch", "experiments.bench.peer_decoder", 0),
        ("import tensorflow", "experiments.bench.peer_decoder", 1),
        ("from experiments import train", "data_pipelines.sources", 1),
        ("from qomni_jax import sizes", "qomni_jax.talker.talker", 1),
        ("from qomni_jax.talker import aria", "qomni_jax.sequence.tokenizer", 1),
    ],
)
def test_the_check_itself_sees_each_kind_of_violation(source, module, count):
    assert len(violations(source, module)) == count


def tracked_text_files() -> Iterator[tuple[pathlib.Path, str]]:
    """Files that git tracks or would track, read as text; outside a git checkout (an sdist), every source file."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        paths = [
            path for path in ROOT.rglob("*") if path.suffix in {".py", ".md", ".gin", ".toml", ".txt", ".sh", ".yaml"}
        ]
        paths = [path for path in paths if not {".venv", "out"} & set(path.relative_to(ROOT).parts)]
    for path in paths:
        if path.is_file():
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_no_tracked_file_names_a_path_of_a_machine():
    # Assembled from pieces so that this file does not match itself.
    absolute = re.compile(
        r"(?<![\w.:/$}-])/(?:" + "|".join(("ho" + "me", "ro" + "ot", "Us" + "ers", "wo" + "rk", "op" + "t")) + r")/\w+"
    )
    found = []
    for path, text in tracked_text_files():
        for number, line in enumerate(text.splitlines(), 1):
            if match := absolute.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert not found, "\n".join(found)
