"""The launchers: what they would run, what they refuse, and a preempted slice that is asked for again."""

import os
from pathlib import Path
import subprocess

import pytest

from tpu_scripts.chips import SHAPES, Slice

SCRIPTS = Path(__file__).parents[2] / "tpu_scripts"
SLICE = ("--name=aria", "--zone=us-west4-a")
CREATE = ("--topology=v5e:4x4", "--repository=https://example.com/q.git", "--revision=abc")


def launch(script: str, *flags: str, path: Path | None = None) -> subprocess.CompletedProcess:
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    command = ["bash", str(SCRIPTS / f"{script}.sh"), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


def test_create_asks_for_the_slice_and_installs_on_all_hosts():
    done = launch("create", *SLICE, *CREATE, "--spot", "--project=p", "--dry-run")
    assert done.returncode == 0, done.stderr
    request, wait, install = done.stdout.splitlines()
    assert request.split() == [
        *("gcloud", "compute", "tpus", "queued-resources", "create", "aria", "--node-id=aria"),
        *("--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"),
        *("--zone=us-west4-a", "--project=p"),
    ]
    assert wait.startswith("gcloud compute tpus queued-resources describe aria ")
    assert "--worker=all" in install
    assert "make\\ venv\\ EXTRAS=demo\\,tpu" in install


@pytest.mark.parametrize("family", ["v5e", "v5p"])
def test_every_slice_that_a_plan_accepts_can_be_asked_for(family):
    """v5e slices are named by chips, v5p slices by cores, two a chip."""
    runtime = {"v5e": "v2-alpha-tpuv5-lite", "v5p": "v2-alpha-tpuv5"}[family]
    for shape in SHAPES[family]:
        chips = Slice.parse(f"{family}:{shape}").chips
        accelerator = f"v5litepod-{chips}" if family == "v5e" else f"v5p-{2 * chips}"
        done = launch("create", *SLICE, f"--topology={family}:{shape}", "--no-install", "--dry-run")
        assert f"--accelerator-type={accelerator} --runtime-version={runtime} " in done.stdout
        assert "--spot" not in done.stdout


@pytest.mark.parametrize(("topology", "accelerator"), [("v5e:16x16", "v5litepod-256"), ("v5p:4x4x4", "v5p-128")])
def test_a_dry_run_prints_every_command_up_to_a_preempted_slice_that_is_asked_for_again(topology, accelerator):
    source = ("--repository=https://example.com/q.git", "--revision=abc")
    done = launch("run", *SLICE, "--experiment=a.b", f"--topology={topology}", *source, "--spot", "--dry-run")
    assert done.returncode == 0, done.stderr
    verbs = [line.split(" aria")[0].rpartition("gcloud compute tpus ")[2] for line in done.stdout.splitlines()]
    assert verbs[0] == "tpu-vm ssh"
    assert verbs[1].startswith("# ")
    queue = [f"queued-resources {verb}" for verb in ("describe", "delete", "create", "describe")]
    assert verbs[2:] == [*queue, "tpu-vm ssh"]
    assert f"--accelerator-type={accelerator} " in done.stdout
    assert "qomni_jax.parallel.distributed\\ a.b" in done.stdout


def test_run_starts_the_module_on_all_hosts_with_its_flags_as_they_are():
    flags = ("--gin_file=a.gin", "--gin_bindings=StudyConfig.seeds = (0, 1)", "--workdir=gs://bucket/a b")
    done = launch("run", *SLICE, "--experiment=experiments.aria_ablation", "--dry-run", "--", *flags)
    assert done.returncode == 0, done.stderr
    # Taken in by a shell twice, as on this machine and on the host, the flags come out unchanged.
    printed = done.stdout.splitlines()[0]
    arguments = subprocess.run(["bash", "-c", f"printf '%s\\n' {printed}"], capture_output=True, text=True).stdout
    command = next(line for line in arguments.splitlines() if line.startswith("--command="))
    inner = command.partition("-m qomni_jax.parallel.distributed ")[2].partition(">>")[0]
    said = subprocess.run(["bash", "-c", f"printf '%s\\n' {inner}"], capture_output=True, text=True).stdout
    assert said.splitlines() == ["experiments.aria_ablation", *flags]


def test_logs_and_delete():
    shown = launch("logs", *SLICE, "--worker=all", "--lines=5", "--follow", "--dry-run").stdout
    assert "tpu-vm ssh aria --worker=all" in shown
    assert "tail\\ -n\\ 5\\ -F" in shown
    deleted = launch("delete", *SLICE, "--dry-run").stdout
    assert deleted.split() == [
        *("gcloud", "compute", "tpus", "queued-resources", "delete", "aria", "--force", "--quiet", "--zone=us-west4-a")
    ]


@pytest.mark.parametrize(
    ("script", "flags", "named"),
    [
        ("create", ("--zone=us-west4-a",), "--name is missing"),
        ("create", ("--name=Aria", "--zone=us-west4-a"), "--name=Aria"),
        ("create", ("--name=aria",), "--zone is missing"),
        ("create", ("--name=aria", "--zone=here"), "--zone=here"),
        ("create", SLICE, "--topology is missing"),
        ("create", (*SLICE, "--topology=v5p:4x4"), "--topology=v5p:4x4"),
        ("create", (*SLICE, "--topology=v6e:4x4"), "--topology=v6e:4x4"),
        ("create", (*SLICE, "--topology=v5e:3x5"), "accepted shapes of v5e are 1x1, 2x2,"),
        ("run", (*SLICE, "--experiment=a", "--topology=v5p:4x4x5"), "--topology=v5p:4x4x5"),
        ("create", (*SLICE, *CREATE, "--wait-minutes=soon"), "--wait-minutes=soon"),
        ("create", (*SLICE, "--name="), "--name=: accepted is --name=VALUE"),
        ("run", SLICE, "--experiment="),
        ("run", (*SLICE, "--experiment=a b"), "--experiment=a b"),
        ("run", (*SLICE, "--experiment=a", "--gin_file=x"), "stand after --"),
        ("run", (*SLICE, "--experiment=a", "--retries=-1"), "--retries=-1"),
        ("logs", (*SLICE, "--worker=first"), "--worker=first"),
        ("delete", (*SLICE, "--all"), "--all"),
    ],
)
def test_a_wrong_flag_is_one_line_and_nothing_runs(script, flags, named):
    done = launch(script, *flags, "--dry-run")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert named in done.stderr
    assert "accepted" in done.stderr


@pytest.mark.parametrize("script", ["create", "run", "logs", "delete"])
def test_help_shows_how_to_call_it(script):
    done = launch(script, "--help")
    assert done.returncode == 0
    assert f"tpu_scripts/{script}.sh --name=NAME --zone=ZONE" in done.stdout
    assert "set -euo" not in done.stdout


GCLOUD = """#!/usr/bin/env bash
echo "$*" >> {log}
case "$*" in
  *"tpu-vm ssh"*parallel.distributed*) [ -e {lost} ] && exit {last}; touch {lost}; exit 255 ;;
  *"queued-resources describe"*) [ -e {lost} ] && [ ! -e {again} ] && echo {state} || echo ACTIVE ;;
  *"queued-resources create"*) touch {again} ;;
esac
"""


def fake_gcloud(directory: Path, state: str, last: int) -> Path:
    names = {name: directory / name for name in ("log", "lost", "again")}
    program = directory / "gcloud"
    program.write_text(GCLOUD.format(state=state, last=last, **names))
    program.chmod(0o755)
    return directory


def test_a_preempted_slice_is_deleted_asked_for_again_and_run_again(tmp_path):
    path = fake_gcloud(tmp_path, "SUSPENDED", 0)
    done = launch("run", *SLICE, "--experiment=a.b", *CREATE, "--spot", path=path)
    assert done.returncode == 0, done.stderr
    calls = [line.split(" --")[0] for line in (tmp_path / "log").read_text().splitlines() if "describe" not in line]
    assert calls == [
        "compute tpus tpu-vm ssh aria",
        "compute tpus queued-resources delete aria",
        "compute tpus queued-resources create aria",
        "compute tpus tpu-vm ssh aria",  # installs
        "compute tpus tpu-vm ssh aria",  # runs again
    ]


def test_an_experiment_that_fails_on_a_slice_that_is_there_is_not_tried_again(tmp_path):
    path = fake_gcloud(tmp_path, "ACTIVE", 0)
    done = launch("run", *SLICE, "--experiment=a.b", *CREATE, path=path)
    assert done.returncode == 255
    assert "logs.sh shows why" in done.stderr
    assert "create" not in (tmp_path / "log").read_text()
