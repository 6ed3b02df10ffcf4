"""Goldens of the gated delta rule alone: output, final state, and the gradient for every input.

Queries and keys are given before their normalisation, as the reference kernel takes them.
"""

from collections.abc import Iterator

import jax
from jax import Array
import numpy as np

from qomni_jax.interop.verify.golden import Golden
from qomni_jax.ops.gated_delta_rule import gated_delta_rule

_ARGUMENTS = ("q", "k", "v", "g", "beta", "s0")
_COTANGENTS = ("do", "ds")


def matches(names: set[str]) -> bool:
    """A file with the operator's arguments."""
    return names >= {"q", "k", "v", "g", "beta"}


def inputs(names: set[str]) -> set[str]:
    """Arguments, and the cotangents of output and state."""
    return names & {*_ARGUMENTS, *_COTANGENTS}


def compute(golden: Golden) -> Iterator[tuple[str, np.ndarray]]:
    """`o`, `s`, and `d<argument>` where the cotangents are there."""
    arguments = {name: golden[name] for name in _ARGUMENTS if name in golden}

    @jax.jit
    def run(arguments: dict[str, Array]) -> tuple[Array, Array]:
        q, k, v, g, beta = (arguments[name] for name in _ARGUMENTS[:5])
        return gated_delta_rule(q, k, v, g, beta, arguments.get("s0"), normalize=True)

    (output, state), pull_back = jax.vjp(run, arguments)
    found = {"o": output, "s": state}
    if golden.keys() >= set(_COTANGENTS):
        (gradients,) = pull_back((golden["do"], golden["ds"]))
        found |= {f"d{name}": gradient for name, gradient in gradients.items()}
    for name, value in found.items():
        if name in golden:
            yield name, np.asarray(value)
