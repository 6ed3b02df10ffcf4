"""The encoders' blocks: outputs of chosen layers, rematerialisation that changes nothing."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np

from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.layers.encoder import Encoder, RowContext
from qomni_jax.layers.linear import axis_names, unbox

CONFIG = EncoderConfig(model_dim=8, num_layers=3, num_heads=2, mlp_dim=12)
X = np.random.default_rng(0).standard_normal((2, 5, 8), np.float32)
CONTEXT = RowContext(np.array([5, 3]))


def test_taps_are_the_outputs_of_their_layers():
    model = Encoder(CONFIG, taps=(0, 2))
    boxed = jax.eval_shape(model.init, jax.random.key(0), X, CONTEXT)
    assert axis_names(boxed)["params"]["blocks"]["mlp"]["fc1"]["kernel"] == PartitionSpec("layers", "embed", "mlp")
    variables = unbox(jax.jit(model.init)(jax.random.key(0), X, CONTEXT))
    params = {"params": variables["params"]}
    (out, tapped), sowed = jax.jit(lambda p, x: model.apply(p, x, CONTEXT, mutable=["intermediates"]))(params, X)
    hidden = sowed["intermediates"]["blocks"]["hidden"][0]
    np.testing.assert_array_equal(tapped, hidden[np.array([0, 2])])
    np.testing.assert_array_equal(out, hidden[2])
    assert np.abs(hidden[1] - hidden[0]).max() > 1e-3


def test_activations_keep_the_type_that_they_come_in():
    model = Encoder(CONFIG, taps=(1,))
    outputs = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), X.astype(jnp.bfloat16), CONTEXT)[0])
    assert [out.dtype for out in outputs] == [jnp.bfloat16] * 2


def test_gradients_do_not_depend_on_rematerialisation():
    params = unbox(jax.jit(Encoder(CONFIG).init)(jax.random.key(0), X, CONTEXT))["params"]

    def gradients(remat: bool):
        model = Encoder(dataclasses.replace(CONFIG, remat=remat))
        return jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(model.apply({"params": p}, X, CONTEXT)[0]))))(params)

    for ours, theirs in zip(*map(jax.tree.leaves, (gradients(True), gradients(False))), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)  # float32, sums in another order
