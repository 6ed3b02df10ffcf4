"""One training stage: whatever the gin files describe, in one workdir.

Command: python -m experiments.train --gin_file=experiments/configs/thinker_cpu.gin --workdir=out/thinker
Cost: `thinker_cpu.gin` takes about 16 minutes on one CPU core, `thinker_seeing_cpu.gin` about 20,
`thinker_media_cpu.gin` about 12, `voice_cpu.gin` about 17.

Interrupted and started again, it goes on where it was, and ends with the same parameters. The workdir holds the data,
`checkpoints`, `metrics.jsonl` and TensorBoard's files, and at last `model`, which `experiments.evaluate` and
`experiments.talk` take as their `--checkpoint`.
"""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from collections.abc import Sequence
from pathlib import Path
import sys
from typing import NoReturn

from absl import app, flags, logging

_GIN_FILE = flags.DEFINE_multi_string("gin_file", [], "gin files that describe the stage, in order.")
_GIN_BINDINGS = flags.DEFINE_multi_string(
    "gin_bindings", [], "gin bindings on top, such as 'ThinkerTrainingConfig.steps = 100'."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "where the stage lives; an unfinished one in it is continued.")


def main(argv: Sequence[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        _fail(f"argument {argv[1]!r}: accepted are flags alone (--help lists them)")
    if not _WORKDIR.value:
        _fail("--workdir is missing: accepted is a directory for the stage, such as out/thinker")
    try:
        model = run(Path(_WORKDIR.value), _GIN_FILE.value, _GIN_BINDINGS.value)
    except (ValueError, OSError, FloatingPointError) as error:
        _fail(" ".join(str(error).split()))
    print(f"model: {model}")


def run(workdir: Path, gin_files: Sequence[str], bindings: Sequence[str]) -> Path:
    """Runs a stage; returns the directory of its model. Raises ValueError and OSError with one line that says what is
    wrong."""
    from experiments.compilation import use_compilation_cache
    from experiments.gin_config import load_config
    from experiments.thinker import media, seeing, transcription
    from experiments.thinker.config import MediaStage, SeeingStage, TrainConfig, TranscriptionStage
    from experiments.voice import stage as voice

    config, _ = load_config(TrainConfig, gin_files, bindings)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"--workdir={workdir}: accepted is a directory that can be written ({error.strerror})") from None
    use_compilation_cache(workdir)
    stage = config.stage

    def report(line: str) -> None:
        print(line, flush=True)

    if isinstance(stage, TranscriptionStage):
        return transcription.run(stage, workdir, report)
    if isinstance(stage, SeeingStage):
        return seeing.run(stage, workdir, report)
    if isinstance(stage, MediaStage):
        return media.run(stage, workdir, report)
    return voice.run(stage, workdir, report)


def _fail(message: str) -> NoReturn:
    print(f"train: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    from experiments.processes import restart_with_kept_memory

    restart_with_kept_memory("experiments.train", sys.argv[1:])
    app.run(main)
