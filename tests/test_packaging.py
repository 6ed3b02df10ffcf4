"""The package, its constraints and its commands keep their promises on a bare machine."""

import ast
import os
import pathlib
import re
import shutil
import subprocess

from packaging.requirements import Requirement
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")


def setup_arguments() -> tuple[list[str], dict[str, list[str]]]:
    """install_requires and extras_require, read by running setup.py's assignments and nothing else of it."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    wanted = [node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id != "ROOT"]  # type: ignore[attr-defined]
    names: dict = {}
    exec(compile(ast.Module(wanted, []), "setup.py", "exec"), names)
    return names["REQUIRES"], names["EXTRAS"]


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def pinned(python: str) -> dict[str, str]:
    """Name (normalised) -> exact version on that Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    found: dict[str, str] = {}
    for requirement in constraints():
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = requirement.name.lower().replace("_", "-")
            assert name not in found, f"{name} is pinned twice on Python {python}"
            found[name] = str(requirement.specifier).removeprefix("==")
    return found


def test_constraints_hold_exact_versions_and_no_addresses():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|@|^-|\.(com|org|net|io)\b", text, re.MULTILINE)
    for requirement in constraints():
        assert re.fullmatch(r"==[\w.+!]+", str(requirement.specifier)), str(requirement)


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_pin_every_dependency_within_its_range(python):
    requires, extras = setup_arguments()
    pins = pinned(python)
    for line in {*requires, *(line for name in ("demo", "serve", "eval", "aot", "dev") for line in extras[name])}:
        requirement = Requirement(line)
        name = requirement.name.lower().replace("_", "-")
        assert name in pins, f"{line} is not pinned on Python {python}"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{name}=={pins[name]} is outside {line}"


def test_extras_and_requirements_exist():
    requires, extras = setup_arguments()
    assert set(extras) == {"demo", "serve", "eval", "aot", "tpu", "cuda", "cuda12", "dev", "peer"}
    names = {Requirement(line).name for line in requires}
    assert {"jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "librosa"} <= names
    assert "chex" not in names


@pytest.mark.skipif(shutil.which("make") is None, reason="needs GNU make")
@pytest.mark.parametrize("target", ["venv", "demo", "test", "lint", "format", "clean", "help"])
def test_make_has_the_target(target):
    assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False).returncode == 0


def dry_run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs GNU make")
def test_make_demo_has_two_sizes_and_refuses_others():
    assert "aria_demo.gin --workdir=out/demo" in dry_run("demo").stdout
    assert "aria_quick.gin --workdir=out/quick" in dry_run("demo", "SIZE=quick").stdout
    assert "--workdir=elsewhere --flag" in dry_run("demo", "OUT=elsewhere", "FLAGS=--flag").stdout
    refused = dry_run("demo", "SIZE=huge")
    assert refused.returncode != 0
    assert "SIZE=huge is not known; accepted: full, quick" in refused.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="needs GNU make")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 1", "accepted: Python 3.11 or later"),
        ('case "$2" in *ensurepip*) exit 1;; *) exit 0;; esac', "has no venv module; install it"),
    ],
)
def test_make_venv_explains_an_unfit_python(tmp_path, script, message):
    for name in ("Makefile", "setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    result = subprocess.run(
        ["make", "venv", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert message in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_lint_then_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert text.index("make lint") < text.index("make test")
