"""Runs a module on one of several hosts: connects them, then does what `python -m MODULE FLAGS` would do.

Command, on every host: python -m qomni_jax.parallel.distributed MODULE FLAGS...
On Cloud TPU hosts JAX finds out by itself who the others are. Elsewhere, `--coordinator=ADDRESS:PORT --processes=N
--process=I` before MODULE say so. A module that starts on one host alone needs none of this.
"""

from collections.abc import Sequence
import runpy
import sys
from typing import Any

import jax

_FLAGS = {"--coordinator": "coordinator_address", "--processes": "num_processes", "--process": "process_id"}


def main(argv: Sequence[str]) -> None:
    """Connects and runs; exits 2 with one line for arguments that are not accepted."""
    settings: dict[str, Any] = {}
    rest = list(argv)
    while rest and rest[0].startswith("--"):
        flag, _, value = rest.pop(0).partition("=")
        if flag not in _FLAGS or not value or (flag != "--coordinator" and not value.isdigit()):
            _fail(f"{flag}={value}: accepted are {', '.join(f'{f}=...' for f in _FLAGS)} before the module")
        settings[_FLAGS[flag]] = value if flag == "--coordinator" else int(value)
    if not rest:
        _fail("no module: accepted is one that python -m runs, such as experiments.aria_ablation")
    if settings and len(settings) < len(_FLAGS):
        _fail(f"{', '.join(_FLAGS)}: accepted are all of them or none")
    jax.distributed.initialize(**settings)
    sys.argv = rest
    runpy.run_module(rest[0], run_name="__main__", alter_sys=True)


def _fail(message: str) -> None:
    print(f"distributed: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
