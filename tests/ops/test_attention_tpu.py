"""The attention kernel of TPUs, in interpret mode: its tiles are chosen here, its mathematics comes with jax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.ops.attention import pallas_tpu
from qomni_jax.ops.attention.pallas_tpu import attention_pallas_tpu
from qomni_jax.ops.attention.reference import attention_reference


@pytest.mark.parametrize("steps", [130, 384, 1100])
@pytest.mark.parametrize("in_turn", [False, True])
def test_gradients_with_segments_in_every_choice_of_tiles(steps, in_turn, monkeypatch):
    """Padded to 256, 384 and 1,536 tokens: backward tiles of 256, 384 and 512 keys; heads together or one by one."""
    monkeypatch.setattr(pallas_tpu, "PARTIAL_GRADIENTS", 0 if in_turn else 2**31)
    rng = np.random.default_rng(steps)
    q, k, v, weight = (
        jnp.asarray(rng.normal(size=(1, steps, heads, 64)), jnp.float32) for heads in (2, 1, 1, 2)
    )  # fmt: skip
    border = steps // 3
    low = jnp.where(jnp.arange(steps) < border, 0, border)[None].astype(jnp.int32)

    @functools.partial(jax.jit, static_argnums=0)
    def gradients(form, *arrays):
        return jax.grad(lambda *a: jnp.sum(weight * form(*a)), argnums=(0, 1, 2))(*arrays)

    ours = gradients(lambda *a: attention_pallas_tpu(*a, low, interpret=True), q, k, v)
    high = jnp.arange(steps)[None]
    for mine, theirs in zip(ours, gradients(lambda *a: attention_reference(*a, low, high), q, k, v), strict=True):
        scale = float(jnp.max(jnp.abs(theirs)))
        np.testing.assert_allclose(mine / scale, theirs / scale, atol=5e-6)  # float32, sums in another order


def test_both_directions_see_the_whole_segment_and_no_other():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(1, 130, 2, 72)), jnp.float32) for _ in range(3))
    low = jnp.where(jnp.arange(130) < 50, 0, 50)[None]
    high = jnp.where(jnp.arange(130) < 50, 49, 129)[None]
    ours = attention_pallas_tpu(q, k, v, low, causal=False, interpret=True)
    np.testing.assert_allclose(ours, attention_reference(q, k, v, low, high), atol=5e-6)  # as above
