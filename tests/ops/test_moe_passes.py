"""Experts on some of the tokens at a time give what they give on all at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.ops.moe import expert_mlp
from qomni_jax.ops.moe.passes import in_passes
from tests.ops.test_moe import inputs

product = functools.partial(expert_mlp, backend="blocked", block_size=4)


@pytest.mark.parametrize("tokens", [0, 8, 24, 100, 7])
def test_passes_change_neither_result_nor_gradients(tokens):
    """7 does not divide the 24 tokens, and 100 is more than there are: both run at once."""
    x, chosen, weights, gate_up, down = inputs(24, 4, 2)

    @functools.partial(jax.jit, static_argnums=0)
    def run(form, x, weights, gate_up, down):
        def loss(x, weights, gate_up, down):
            y = form(x, chosen, weights, gate_up, down)
            return jnp.sum(jnp.sin(y)), y

        return jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(x, weights, gate_up, down)

    ours = jax.tree.leaves(run(in_passes(product, tokens), x, weights, gate_up, down))
    for mine, theirs in zip(ours, jax.tree.leaves(run(product, x, weights, gate_up, down)), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5, rtol=1e-5)  # float32, weight gradients summed by pass


def test_memory_of_the_backward_pass_is_that_of_one_pass():
    """Saved for the backward pass: the arguments, and nothing of a token's copies."""
    x, chosen, weights, gate_up, down = map(jnp.asarray, inputs(64, 4, 4))

    def saved(tokens: int) -> int:
        form = in_passes(product, tokens)
        _, vjp = jax.vjp(lambda x, w: form(x, chosen, w, gate_up, down), x, weights)
        return sum(leaf.size for leaf in jax.tree.leaves(vjp))

    arguments = sum(a.size for a in (x, chosen, weights, gate_up, down))
    assert saved(8) <= arguments < saved(0)
