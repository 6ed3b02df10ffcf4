"""Golden files: tensors that a reference computed, and how far ours are from them."""

from collections.abc import Iterator, Mapping
import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from qomni_jax.interop.safetensors_file import SafetensorsFile

ABSOLUTE_TOLERANCE = 2e-5
RELATIVE_TOLERANCE = 2e-5  # of the root mean square of the golden tensor
LARGEST_ALLOWANCE = 3.0

Golden = Mapping[str, np.ndarray]


class GoldenFamily(Protocol):
    """What the tensors of one kind of golden file mean."""

    def matches(self, names: set[str]) -> bool:
        """Whether a file with these tensors is of this kind."""

    def inputs(self, names: set[str]) -> set[str]:
        """Those that are given to the computation."""

    def compute(self, golden: Golden) -> Iterator[tuple[str, np.ndarray]]:
        """(name, our value) of the others, as far as they are understood."""


class Comparison(NamedTuple):
    """One tensor: largest absolute error, root mean square of the golden one, within tolerance or not.

    `golden_err` is the golden's own error, where the exact values are known.
    """

    max_abs_err: float
    rms: float
    ok: bool
    golden_err: float | None = None


def read_golden(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All tensors of a golden file; raises CheckpointError when it is not a whole safetensors file."""
    with SafetensorsFile(Path(path)) as file:
        return {name: file.read(name) for name in file.tensors}


def compare(ours: np.ndarray, golden: np.ndarray, exact: np.ndarray | None = None) -> Comparison:
    """Integers must be equal, other numbers within the tolerances; a NaN on either side is an infinite error.

    Where the `exact` values are known, the largest error of the golden is added to the tolerance, up to
    `LARGEST_ALLOWANCE` times its width: what is further off is not rounding.
    """
    wanted, found = golden.astype(np.float64), np.asarray(ours).astype(np.float64)
    rms = float(np.sqrt(np.mean(wanted**2))) if wanted.size else 0.0
    if found.shape != wanted.shape:
        return Comparison(float("inf"), rms, False)
    error = np.abs(found - wanted)
    largest = float(np.max(np.where(np.isnan(error), np.inf, error), initial=0.0))
    tolerance = 0.0 if golden.dtype.kind in "iub" else ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * rms
    own = None if exact is None else float(np.max(np.abs(exact - wanted), initial=0.0))
    allowance = min(own or 0.0, LARGEST_ALLOWANCE * tolerance)
    return Comparison(largest, rms, largest <= tolerance + allowance, own)


def as_json(name: str, comparison: Comparison, is_input: bool) -> dict[str, Any]:
    """A row of the report; an infinite error is null."""
    finite = np.isfinite(comparison.max_abs_err)
    row: dict[str, Any] = {
        "max_abs_err": comparison.max_abs_err if finite else None,
        "rms": comparison.rms,
        "ok": comparison.ok,
    }
    if comparison.golden_err is not None:
        row["golden_err"] = comparison.golden_err
    return row | ({"input": True} if is_input else {})
