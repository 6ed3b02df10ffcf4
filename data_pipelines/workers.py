"""Tasks spread over worker processes that run one module each, and a line of progress with the time left.

A worker is `python -m MODULE`. It reads JSON lines from its standard input, first a setup and then task after task, and
answers each task with a JSON line: `{}` when it is done, `{"error": message}` when it failed. Unlike the workers of
multiprocessing, it never imports the main module, and it ends with its parent, however that ends.
"""

from collections.abc import Callable, Iterable, Mapping
import contextlib
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time
from typing import IO, Any

from data_pipelines.shards import Shard, write_shard

Records = Iterable[tuple[bytes, Mapping[str, int]]]


def run_tasks(
    module: str, setup: dict[str, Any], tasks: Iterable[dict[str, Any]], workers: int, on_done: Callable[[int], None]
) -> None:
    """Runs `tasks` in `workers` processes of `module`; `on_done(i)` is called in this thread after task i is done.

    Raises ValueError with a worker's own message for the first task that fails, RuntimeError if a worker dies.
    """
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    done: queue.SimpleQueue = queue.SimpleQueue()
    numbered = list(enumerate(tasks))
    for task in numbered:
        waiting.put(task)
    processes = [_start(module) for _ in range(min(workers, len(numbered)))]
    try:
        for process in processes:
            threading.Thread(target=_feed, args=(process, setup, waiting, done), daemon=True).start()
        for _ in numbered:
            index, error = done.get()
            if error:
                raise error
            on_done(index)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
            tasks_in, answers_out = _pipes(process)
            answers_out.close()
            with contextlib.suppress(OSError):
                tasks_in.close()


def serve_tasks(start: Callable[[dict[str, Any]], Callable[[dict[str, Any]], None]]) -> None:
    """The main function of a worker: `start(setup)` returns the function to call with each task."""
    perform = start(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        try:
            perform(json.loads(line))
            answer = {}
        except ValueError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


def serve_shards(start: Callable[[dict[str, Any]], Callable[[Shard, dict[str, Any]], Records]]) -> None:
    """The main function of a worker of `sharded_builder`: `start(setup)` returns the function that gives the records of
    a shard, each with what it measures, from the shard and its details."""

    def start_writing(setup: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
        staging, records_of = pathlib.Path(setup["staging"]), start(setup)

        def perform(task: dict[str, Any]) -> None:
            shard = Shard(**task.pop("shard"))
            write_shard(staging, shard, records_of(shard, task))

        return perform

    serve_tasks(start_writing)


class Progress:
    """One line on standard error with what is done and the time left, rewritten in place on a terminal."""

    def __init__(self, name: str, total: int, unit: str, work: float | None = None, interval: float = 5.0):
        """`total` units are to be done; off a terminal a line is written every `interval` seconds at most.

        `work` is what they cost together, in the unit of `advance`'s: by default each costs the same.
        """
        self._name, self._total, self._unit = name, total, unit
        self._work, self._worked = work or total, 0.0
        self._interval = 0.2 if sys.stderr.isatty() else interval
        self._done, self._start, self._shown = 0, time.monotonic(), time.monotonic()

    def advance(self, units: int, work: float | None = None) -> None:
        """Notes that `units` more are done, which cost `work`, and shows the line if it is time."""
        self._done += units
        self._worked += units if work is None else work
        now = time.monotonic()
        if now - self._shown < self._interval and self._done < self._total:
            return
        self._shown, taken = now, now - self._start
        left = taken / self._worked * (self._work - self._worked)
        line = f"{self._name}: {self._done}/{self._total} {self._unit}, {taken:.0f} s, about {left:.0f} s left"
        if sys.stderr.isatty():
            line = f"\r{line}\033[K" + ("\n" if self._done >= self._total else "")
        else:
            line += "\n"
        print(line, end="", file=sys.stderr, flush=True)


def _start(module: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    command = [sys.executable, "-m", module]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _pipes(process: subprocess.Popen) -> tuple[IO[str], IO[str]]:
    """The standard input and output of a process of `_start`."""
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _feed(
    process: subprocess.Popen, setup: dict[str, Any], waiting: queue.SimpleQueue, done: queue.SimpleQueue
) -> None:
    index = -1
    tasks_in, answers_out = _pipes(process)
    try:
        tasks_in.write(json.dumps(setup) + "\n")
        while True:
            index, task = waiting.get_nowait()
            tasks_in.write(json.dumps(task) + "\n")
            tasks_in.flush()
            answer = answers_out.readline()
            if not answer:
                raise BrokenPipeError
            message = json.loads(answer).get("error")
            done.put((index, ValueError(message) if message else None))
    except queue.Empty:
        return
    except (OSError, ValueError):
        done.put((index, RuntimeError(f"a worker ended with status {process.wait()} before its task; run it again")))
