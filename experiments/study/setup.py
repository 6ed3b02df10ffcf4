"""The workdir of a study: whose it is."""

import dataclasses
from pathlib import Path
from typing import Any

from experiments.study.config import StudyConfig
from qomni_jax.training.checkpoint import bind_config

# Fields that may change between two sittings: they change which runs there are, not what a run does.
_FREE = ("arms", "seeds", "workers", "title", "max_clean_wer", "max_resynthesis_wer", "min_stoi")


def bind_workdir(workdir: Path, study: StudyConfig) -> None:
    """Makes the workdir this study's, or checks that it is.

    Raises ConfigMismatchError naming the first field that differs, and OSError when the directory cannot be written.
    """
    fields: dict[str, Any] = {key: value for key, value in dataclasses.asdict(study).items() if key not in _FREE}
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        bind_config(workdir, fields)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise OSError(f"--workdir={workdir}: accepted is a directory that can be written ({error.strerror})") from None
