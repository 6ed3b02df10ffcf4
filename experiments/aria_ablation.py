"""ARIA against dual-track and fixed-rate interleaving on real speech, judged by an independent recogniser.

Claim under test: a Talker whose single stream of text and speech obeys ARIA's prefix rule makes fewer word errors than
the same Talker on two tracks or at a fixed rate, above all on sentences longer than any it was trained on.
Expected: a report of whatever comes out; `docs/aria.md` holds the figures of past runs.
Cost: about 20 minutes on two CPU cores (aria_demo.gin), under 5 minutes (aria_quick.gin), hours (aria_study.gin).
Command: python -m experiments.aria_ablation --gin_file=experiments/configs/aria_demo.gin --workdir=out/demo

Interrupted and started again, it goes on where it was. Every stage leaves its result in the workdir: corpus, codec,
codes, talkers, results, and at last report.html and report.json.
"""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from collections.abc import Sequence
import datetime
import importlib.metadata
import json
from pathlib import Path
import platform
import subprocess
import sys
import time
from typing import NoReturn

from absl import app, flags, logging

from experiments.files import write_atomically
from experiments.study.config import Arm, StudyConfig

_GIN_FILE = flags.DEFINE_multi_string("gin_file", [], "gin files that describe the study, in order.")
_GIN_BINDINGS = flags.DEFINE_multi_string(
    "gin_bindings", [], "gin bindings on top, such as 'StudyConfig.seeds = (0, 1)'."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "where the study lives; an unfinished one in it is continued.")
_ARM = flags.DEFINE_string("arm", None, "train and judge this arm alone, its materials being there already.")
_SEED = flags.DEFINE_integer("seed", 0, "the seed, with --arm.")

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "espeakng-loader", "pocketsphinx", "numpy")


def main(argv: Sequence[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        _fail(f"argument {argv[1]!r}: accepted are flags alone (--help lists them)")
    workdir = _WORKDIR.value
    if not workdir:
        _fail("--workdir is missing: accepted is a directory for the study, such as out/demo")
    try:
        run(Path(workdir), _GIN_FILE.value, _GIN_BINDINGS.value, _ARM.value, _SEED.value)
    except (ValueError, OSError, FloatingPointError) as error:
        _fail(" ".join(str(error).split()))


def run(workdir: Path, gin_files: Sequence[str], bindings: Sequence[str], arm: str | None, seed: int) -> None:
    """Runs a study, or one arm of it. Raises ValueError and OSError with one line that says what is wrong."""
    import jax

    from experiments.compilation import use_compilation_cache
    from experiments.gin_config import ConfigError, load_config
    from experiments.study import materials
    from experiments.study.setup import bind_workdir

    study, operative = load_config(StudyConfig, gin_files, bindings)
    bind_workdir(workdir, study)
    use_compilation_cache(workdir)
    if arm is not None:
        chosen = {a.name: a for a in study.arms}
        if arm not in chosen:
            raise ConfigError(f"--arm={arm}: accepted is one of {', '.join(chosen)}")
        _run_arm(study, chosen[arm], seed, workdir)
        return

    from experiments.report import build_report, write_summary_markdown

    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    seconds: dict[str, float] = {}
    prepared = materials.prepare(study, workdir, _report, seconds)
    clock_talkers = time.monotonic()
    runs = study.runs()
    details = {
        "title": study.title,
        "command": _command(gin_files, bindings, workdir),
        "config": operative,
        "versions": {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in _PACKAGES}},
        "machine": {"system": platform.platform(terse=True), "processor": platform.machine(), "cores": os.cpu_count()},
        "started": started.isoformat(timespec="seconds"),
        "runs": len(runs),
    }
    # What `experiments.report` needs while the study goes on.
    write_atomically(workdir / "run.json", json.dumps({**details, "seconds": _seconds_before(workdir)}, indent=1))
    # An accelerator belongs to one process; cores are shared out.
    if study.workers > 1 and jax.default_backend() == "cpu":
        del prepared
        _run_processes(runs, study.workers, workdir, gin_files, bindings)
    else:
        for a, s in runs:
            _run_arm(study, a, s, workdir)
    seconds["talkers"] = time.monotonic() - clock_talkers
    details["seconds"] = _total_seconds(workdir, seconds)
    write_atomically(workdir / "run.json", json.dumps(details, indent=1))
    print(write_summary_markdown(build_report(workdir)))
    _report(f"report: {workdir / 'report.html'} ({(time.monotonic() - clock) / 60:.1f} minutes)")


def _run_arm(study: StudyConfig, arm: Arm, seed: int, workdir: Path) -> None:
    from experiments.study.materials import open_materials
    from experiments.study.talker_run import TalkerRun

    if not (workdir / "results" / f"{arm.name}-seed{seed}.json").exists():
        TalkerRun(study, arm, seed, open_materials(workdir), workdir, _report).run()


def _run_processes(
    runs: Sequence[tuple[Arm, int]], workers: int, workdir: Path, gin_files: Sequence[str], bindings: Sequence[str]
) -> None:
    """Every run in a process of its own, `workers` at a time, each with its share of the cores; an odd one at the end,
    which runs alone, has them all."""
    from experiments.processes import KEEP_MEMORY

    cores = os.cpu_count() or 1
    alone = runs[-1] if len(runs) % workers == 1 else None
    flag_values = [f"--gin_file={f}" for f in gin_files] + [f"--gin_bindings={b}" for b in bindings]
    waiting = [(a, s) for a, s in runs if not (workdir / "results" / f"{a.name}-seed{s}.json").exists()]
    running: list[tuple[str, subprocess.Popen]] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                arm, seed = waiting.pop(0)
                command = [sys.executable, "-m", "experiments.aria_ablation", f"--workdir={workdir}", *flag_values]
                threads = str(cores if (arm, seed) == alone else max(1, cores // workers))
                environment = {**KEEP_MEMORY, **os.environ, "NPROC": threads, "OMP_NUM_THREADS": threads}
                process = subprocess.Popen([*command, f"--arm={arm.name}", f"--seed={seed}"], env=environment)
                running.append((f"{arm.name} seed {seed}", process))
            time.sleep(0.2)
            for name, process in list(running):
                if process.poll() is not None:
                    running.remove((name, process))
                    if process.returncode:
                        raise ValueError(f"{name} ended with status {process.returncode}; its message stands above")
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()


def _total_seconds(workdir: Path, seconds: dict[str, float]) -> dict[str, float]:
    """Seconds of each stage over all the sittings of an interrupted study."""
    before = _seconds_before(workdir)
    total = {name: value + before.get(name, 0.0) for name, value in seconds.items()}
    write_atomically(workdir / "seconds.json", json.dumps(total))
    return total


def _seconds_before(workdir: Path) -> dict[str, float]:
    path = workdir / "seconds.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _command(gin_files: Sequence[str], bindings: Sequence[str], workdir: Path) -> str:
    parts = [f"--gin_file={f}" for f in gin_files] + [f"--gin_bindings='{b}'" for b in bindings]
    return " ".join(["python -m experiments.aria_ablation", *parts, f"--workdir={workdir}"])


def _report(line: str) -> None:
    print(line, flush=True)


def _fail(message: str) -> NoReturn:
    print(f"aria_ablation: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    app.run(main)
