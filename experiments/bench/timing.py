"""Wall-clock timing of jitted functions: compilation apart, medians of repetitions, a peer's in between."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import re
import statistics
import time
from typing import Any

import jax
import numpy as np

from experiments.bench.devices import place
from experiments.bench.peer import Peer

SETTLE_SECONDS = 0.05  # between the two sides of a comparison: threads of the other one stop spinning


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of a bench.

    Attributes:
      name: as in the JSON.
      build: makes inputs, compiles and warms up; returns the function to time, which waits for its result.
      peer: what a peer is asked to prepare, one entry for every form of it that may be the faster one; empty for none.
      flops: of the work (not of an implementation), 0 where it is not a matter of products.
      steps: parts that one call does one after another; times are per part.
      beside: as `build`, of a peer that runs in this process; where there is one, `peer` is empty.
    """

    name: str
    build: Callable[[], Callable[[], Any]]
    peer: tuple[dict[str, Any], ...] = ()
    flops: float = 0.0
    steps: int = 1
    beside: Callable[[], Callable[[], Any]] | None = None


@dataclasses.dataclass(frozen=True)
class Figure:
    """A row of a bench that is no time, less being better: `measure` gives it in `unit`."""

    name: str
    measure: Callable[[], float]
    unit: str


def run_cases(cases: Sequence[Case | Figure], peer: Peer | None, repeats: int, only: str = "") -> list[dict[str, Any]]:
    """A row for every case whose name matches the regular expression `only`; prints each as it is done."""
    peak, bandwidth = matmul_peak(), matvec_bandwidth()
    print(f"float32 here and now: matmul 2048^3 {peak / 1e9:.0f} GFLOP/s, ", end="")
    print(f"matrix-vector of 128 MiB {bandwidth / 1e9:.0f} GB/s", flush=True)
    rows = []
    for case in cases:
        if re.search(only, case.name):
            machine = {"peak_gflops": peak / 1e9, "bandwidth_gbs": bandwidth / 1e9}
            row = run_case(case, peer, repeats) if isinstance(case, Case) else _figure_row(case)
            rows.append(row | machine)
            print(describe(rows[-1]), flush=True)
    return rows


def run_case(case: Case, peer: Peer | None, repeats: int) -> dict[str, Any]:
    """Medians of `repeats`; where there is a peer, a repetition of ours and one of the peer's take turns."""
    began = time.perf_counter()
    function = case.build()
    compile_seconds = time.perf_counter() - began
    asked: dict[str, Any] | None = None
    other_side: Callable[[], float] | None = None
    if peer is not None and case.beside is not None:
        other_side = functools.partial(seconds_of, case.beside())
    elif peer is not None and case.peer:
        asked, other_side = _faster(peer, case.peer), peer.run
    ours, theirs = [], []
    for _ in range(repeats):
        time.sleep(SETTLE_SECONDS)
        ours.append(seconds_of(function) / case.steps)
        if other_side is not None:
            time.sleep(SETTLE_SECONDS)
            theirs.append(other_side() / case.steps)
    seconds = statistics.median(ours)
    other = statistics.median(theirs) if theirs else None
    return {
        "case": case.name,
        "ours": seconds,
        "peer": other,
        "ratio": None if other is None else other / seconds,
        "unit": "s",
        "higher_is_better": False,
        "ours_min": min(ours),
        "peer_min": min(theirs) if theirs else None,
        "peer_form": asked,
        "repeats": repeats,
        "compile_seconds": compile_seconds,
        "gflops": case.flops / case.steps / seconds / 1e9,
    }


def _figure_row(figure: Figure) -> dict[str, Any]:
    row = {"case": figure.name, "ours": figure.measure(), "peer": None, "ratio": None}
    return row | {"unit": figure.unit, "higher_is_better": False}


def _faster(peer: Peer, forms: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """Prepares the form that is faster in one run each."""
    if len(forms) > 1:
        trial = {}
        for index, form in enumerate(forms):
            peer.prepare(form)
            trial[index] = peer.run()
        forms = (forms[min(trial, key=lambda i: trial[i])],)
    peer.prepare(forms[0])
    return forms[0]


def seconds_of(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def jitted(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """`function` compiled for `args` and warmed up, as a function of nothing that waits for its result."""
    compiled = jax.jit(function).lower(*args).compile()

    def call() -> Any:
        return jax.block_until_ready(compiled(*args))

    for _ in range(2):
        call()
    return call


def matmul_peak(size: int = 2048) -> float:
    """FLOP/s of a square float32 product, the best of five, its columns spread over the mesh."""
    a, b = place(np.ones((size, size), np.float32)), place(np.ones((size, size), np.float32), None, "tokens")
    call = jitted(lambda x, y: x @ y, a, b)
    return 2 * size**3 / min(seconds_of(call) for _ in range(5))


def matvec_bandwidth(rows: int = 4096, columns: int = 8192) -> float:
    """Bytes a second of a float32 product of a matrix that fits no cache and a vector, the best of five; as above."""
    matrix = place(np.ones((rows, columns), np.float32), None, "tokens")
    vector = place(np.ones((1, rows), np.float32))
    call = jitted(lambda x, m: x @ m, vector, matrix)
    return matrix.nbytes / min(seconds_of(call) for _ in range(5))


def describe(row: dict[str, Any]) -> str:
    """One line for people."""
    text = f"{row['case']:34s} ours {row['ours']:.4g} {row['unit']}"
    if row.get("peer") is not None:
        text += f"  peer {row['peer']:.4g} {row['unit']}  ratio {row['ratio']:.2f}"
    if row.get("gflops"):
        text += f"  {row['gflops']:.0f} of {row['peak_gflops']:.0f} GFLOP/s"
    return text
