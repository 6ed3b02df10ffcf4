"""The surroundings of a training process."""

from collections.abc import Sequence
import os
import sys

# glibc returns XLA's large buffers to the system after every step and faults them in again in the next: a third of the
# time of a small model's step. These keep them in the heap. They act at the start of a process.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(100 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}


def restart_with_kept_memory(module: str, arguments: Sequence[str]) -> None:
    """Replaces this process by `python -m module arguments` with `KEEP_MEMORY`, unless it has that already."""
    if not KEEP_MEMORY.keys() <= os.environ.keys():
        command = [sys.executable, "-m", module, *arguments]
        os.execve(sys.executable, command, {**KEEP_MEMORY, **os.environ})
