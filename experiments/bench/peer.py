"""A reference implementation in a process of its own, asked over pipes: one line of JSON each way.

The parent sends `{"prepare": {...}}` and `{"run": true}`; the child answers `{"seconds": x}` or `{"error": text}`.
While it is not asked the child sleeps in a read, so that both sides have the machine to themselves in turn.
"""

from collections.abc import Callable
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

from experiments.processes import KEEP_MEMORY

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class PeerError(RuntimeError):
    """The peer could not be started, or failed."""


class Peer:
    """Runs `python -m module` and asks it; a context manager."""

    def __init__(self, python: str, module: str, threads: int):
        self.command = [python, "-m", module, str(threads)]
        environment = {name: value for name, value in os.environ.items() if name not in KEEP_MEMORY}
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        try:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**environment, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
            )
        except OSError as error:
            raise PeerError(f"peer {python}: {error.strerror}; accepted is a Python interpreter") from error
        self._answer()

    def prepare(self, form: dict[str, Any]) -> None:
        """Makes inputs and warms up."""
        self._ask({"prepare": form})

    def run(self) -> float:
        """Seconds of one run of what was prepared, by the child's own clock."""
        return self._ask({"run": True})["seconds"]

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerError(f"peer {' '.join(self.command)}: it has ended") from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "it ended without an answer"}
        if "error" in answer:
            raise PeerError(f"peer {' '.join(self.command)}: {answer['error']}")
        return answer


def serve(start: Callable[[int], Callable[[dict[str, Any]], Callable[[], Any]]]) -> None:
    """The child's side. `start(threads)` imports and sets up; what it returns makes the function to time of a form.

    Whatever libraries print goes to the standard error, as the answers have the standard output.
    """
    answers, sys.stdout = sys.stdout, sys.stderr

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        prepare = start(int(sys.argv[1]))
    except ImportError as error:
        say(
            error=f"{error}; install the extra `peer` there (pip install -e .[peer]) or name an interpreter that has it"
        )
        return
    say(ready=True)
    function: Callable[[], Any] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prepare" in request:
                function = prepare(request["prepare"])
                function()
                say(ready=True)
            elif function is not None:
                began = time.perf_counter()
                function()
                say(seconds=time.perf_counter() - began)
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}")
