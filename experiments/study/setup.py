"""The workdir of a study: whose it is, and what it keeps compiled."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from experiments.study.config import StudyConfig
from qomni_jax.training.checkpoint import bind_config

# Fields that may change between two sittings: they change which runs there are, not what a run does.
_FREE = ("arms", "seeds", "workers", "title", "max_clean_wer", "max_resynthesis_wer", "min_stoi")

# glibc returns XLA's large buffers to the system after every step and faults them in again in the next: a third of the
# time of a small model's step. These keep them in the heap. They act at the start of a process, so workers get them.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(100 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}


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


def use_compilation_cache(workdir: Path) -> None:
    """Compiled programs are kept in the workdir: arms and seeds with the same shapes share them."""
    jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # XLA's own caches would put the directory's path into the key of every program: a moved workdir would find none.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
