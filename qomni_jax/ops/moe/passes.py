"""Experts applied to some of the tokens at a time."""

from collections.abc import Callable

import jax
from jax import Array

ExpertProduct = Callable[[Array, Array, Array, Array, Array], Array]


def in_passes(product: ExpertProduct, tokens: int) -> ExpertProduct:
    """`product(x, experts, weights, gate_up, down)` on at most `tokens` rows at a time; 0: on all of them at once.

    A token visits several experts, so that its copies are what a layer's memory goes to. Passes follow each other, and
    the backward pass computes each one again: the memory of one, forward and backward. Where `tokens` does not divide
    the rows, all run at once.
    """

    def run(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array) -> Array:
        if not tokens or x.shape[0] <= tokens or x.shape[0] % tokens:
            return product(x, experts, weights, gate_up, down)

        @jax.checkpoint
        def one(rows: tuple[Array, Array, Array]) -> Array:
            return product(*rows, gate_up, down)

        x, experts, weights = (a.reshape(-1, tokens, a.shape[-1]) for a in (x, experts, weights))
        return jax.lax.map(one, (x, experts, weights)).reshape(-1, x.shape[-1])

    return run
