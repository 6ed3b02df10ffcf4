"""Qwen3-Omni's Talker: its twin without stacks has the same parameters, and shapes are those of the signatures.

What it computes is tested against a plain computation in `tests/interop/test_talker.py`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.layers.linear import unbox
from qomni_jax.sizes import qwen3_omni_talker
from qomni_jax.talker.qwen3_omni import Qwen3OmniTalker, init_qwen3_omni_talker, unstack_qwen3_omni_talker


def shapes(config):
    return jax.eval_shape(lambda: unbox(init_qwen3_omni_talker(config, jax.random.key(0))))


def test_the_twin_has_the_parameters_of_its_own_configuration_and_fills_in_frames():
    """At the released size, without computing anything."""
    config = qwen3_omni_talker()
    stacks = (dataclasses.replace(part, stacked=False) for part in (config.decoder, config.predictor))
    twin = dataclasses.replace(config, **dict(zip(("decoder", "predictor"), stacks, strict=True)))
    params = jax.eval_shape(lambda p: unstack_qwen3_omni_talker(config, p)[1], shapes(config))
    assert jax.tree.map(lambda leaf: leaf.shape, params) == jax.tree.map(lambda leaf: leaf.shape, shapes(twin))
    hidden, code = jnp.zeros((2, 1024)), jnp.zeros(2, jnp.int32)
    keys = jax.random.split(jax.random.key(0), 2)

    def frame(params):
        args = (hidden, code, keys, SamplingConfig())
        return Qwen3OmniTalker(twin).apply({"params": params}, *args, method=Qwen3OmniTalker.frame)

    codes, embedded = jax.eval_shape(frame, params)
    assert (codes.shape, codes.dtype, embedded.shape) == ((2, 16), jnp.int32, (2, 1024))
