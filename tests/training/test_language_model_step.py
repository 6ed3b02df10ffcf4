"""The train step of the decoder language model: it learns, and packing, remat and meshes do not change its numbers."""

import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.training import LanguageModelTrainingConfig, OptimizerConfig
from qomni_jax.sizes import talker_tiny
from qomni_jax.training.language_model_step import (
    init_language_model_state,
    language_model_loss,
    make_language_model_step,
)

DECODER = dataclasses.replace(talker_tiny().decoder, periods=1, remat=())
CONFIG = LanguageModelConfig(vocab_size=40, decoder=DECODER)
WITH_MTP = dataclasses.replace(CONFIG, num_mtp_layers=1)
# Gradients of length 1 to 3 whose sums are taken in another order.
ROUNDING = {"rtol": 1e-4, "atol": 2e-5}
MESH_ERROR = 1e-5  # of a loss, and of each parameter's gradient against the largest number in it
TRAINING = LanguageModelTrainingConfig(
    steps=60, loss_chunk=16, optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5)
)


@pytest.fixture(scope="module")
def params():
    return init_language_model_state(CONFIG, TRAINING).params


def tokens(rows: int, steps: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, CONFIG.vocab_size, (rows, steps)).astype(np.int32)


def test_the_step_learns_to_count():
    state = init_language_model_state(CONFIG, TRAINING)
    step = make_language_model_step(CONFIG, TRAINING)
    first = None
    for index in range(TRAINING.steps):
        starts = np.random.default_rng(index).integers(0, CONFIG.vocab_size, (4, 1))
        batch = {"tokens": ((starts + np.arange(24)) % CONFIG.vocab_size).astype(np.int32)}
        state, metrics = step(state, batch)
        first = first or float(metrics["token_loss"])
    assert first > 3.0  # log 40 = 3.7 for a guess
    assert metrics["token_loss"] < 0.3
    assert int(state.step) == TRAINING.steps
    assert 1 / 4 <= metrics["router_max_load"] <= 1
    assert 0 < metrics["router_entropy"] <= np.log(4) + 1e-6
    np.testing.assert_allclose(metrics["router_load"].sum(), 1.0, rtol=1e-5)


def test_two_segments_in_a_row_give_the_mean_of_their_own_losses(params):
    rows = tokens(2, 9)
    loss = jax.jit(lambda batch: language_model_loss(CONFIG, TRAINING, params, batch)[1]["token_loss"])
    alone = loss({"tokens": rows})
    packed = loss({"tokens": rows.reshape(1, 18), "segment_ids": np.repeat([[0, 1]], 9, axis=1)})
    np.testing.assert_allclose(packed, alone, rtol=1e-5)


def test_padding_changes_neither_loss_nor_router_balance(params):
    rows = tokens(2, 9)
    padded = np.pad(rows, ((0, 0), (0, 5)))
    mask = np.pad(np.ones(rows.shape, np.int32), ((0, 0), (0, 5)))
    loss = jax.jit(lambda batch: language_model_loss(CONFIG, TRAINING, params, batch)[0])
    np.testing.assert_allclose(loss({"tokens": padded, "mask": mask}), loss({"tokens": rows}), rtol=1e-5)


def test_the_loss_is_cross_entropy_plus_weighted_balance(params):
    loss, metrics = language_model_loss(CONFIG, TRAINING, params, {"tokens": tokens(2, 9)})
    expected = metrics["token_loss"] + CONFIG.router_aux_weight * metrics["router_balance"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert metrics["router_balance"] > 1.9  # top_k = 2 when balanced, more when not


def test_remat_gives_the_same_gradients(params):
    batch = {"tokens": tokens(2, 9)}

    def gradients(remat):
        config = dataclasses.replace(CONFIG, decoder=dataclasses.replace(CONFIG.decoder, remat=remat))
        return jax.jit(jax.grad(lambda p: language_model_loss(config, TRAINING, p, batch)[0]))(params)

    kept = gradients(("gdn_in", "moe_in"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), gradients(None), kept)


def test_the_mtp_head_is_trained_on_the_token_after_next_and_leaves_the_token_loss_as_it_is(params):
    everything = init_language_model_state(WITH_MTP, TRAINING).params
    rows = tokens(2, 9)
    metrics = {}
    for name, given in {
        "whole": rows,
        "last changed": np.concatenate([rows[:, :-1], (rows[:, -1:] + 1) % 40], 1),
    }.items():
        function = jax.value_and_grad(
            lambda p, x=given: language_model_loss(WITH_MTP, TRAINING, p, {"tokens": x}), has_aux=True
        )
        (_, metrics[name]), gradients = jax.jit(function)(everything)
    assert np.abs(gradients["mtp"]["fc"]["kernel"]).max() > 0
    shared = {**everything}
    del shared["mtp"]
    alone = language_model_loss(CONFIG, TRAINING, shared, {"tokens": rows})[1]["token_loss"]
    np.testing.assert_allclose(metrics["whole"]["token_loss"], alone, rtol=1e-6)
    weighted = metrics["whole"]["token_loss"] + TRAINING.mtp_weight * metrics["whole"]["mtp_loss"]
    assert weighted < metrics["whole"]["loss"] < weighted + 2 * CONFIG.router_aux_weight * 3
    assert metrics["whole"]["mtp_loss"] != metrics["last changed"]["mtp_loss"]


MESHED = """
import dataclasses
import jax, numpy as np
from tests.training.test_language_model_step import CONFIG, MESH_ERROR, TRAINING, tokens
from qomni_jax.parallel.mesh import make_mesh
from qomni_jax.training import language_model_step as lm
from qomni_jax.training.step import batch_shardings

batch = {"tokens": tokens(8, 16)}
ring = dataclasses.replace(CONFIG.decoder.feed_forward, dispatch="ring")
RING = dataclasses.replace(CONFIG, decoder=dataclasses.replace(CONFIG.decoder, feed_forward=ring))

def value_and_gradients(params, batch, config=CONFIG):
    return jax.jit(jax.value_and_grad(lambda p, b: lm.language_model_loss(config, TRAINING, p, b)[0]))(params, batch)

alone = lm.init_language_model_state(CONFIG, TRAINING)
loss, gradients = value_and_gradients(alone.params, batch)
names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(gradients)]
mesh = make_mesh(data=2, expert=2, tensor=2)
with jax.set_mesh(mesh):
    state = lm.init_language_model_state(CONFIG, TRAINING, mesh)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, alone.params)
    head = state.params["lm_head"]["kernel"]
    experts = state.params["decoder"]["periods"]["gdn_0"]["feed_forward"]["moe"]["experts_gate_up_proj"]
    assert head.addressable_shards[0].data.size * 2 == head.size
    assert experts.addressable_shards[0].data.size * 4 == experts.size
    placed = jax.device_put(batch, batch_shardings(mesh, batch))
    results = [value_and_gradients(state.params, placed, config) for config in (CONFIG, RING)]
for dispatch, (meshed_loss, meshed) in zip(("local", "ring"), results):
    assert abs(meshed_loss - loss) <= MESH_ERROR * loss, (dispatch, meshed_loss, loss)
    for name, ours, alone in zip(names, jax.tree.leaves(meshed), jax.tree.leaves(gradients), strict=True):
        error = np.abs(np.asarray(ours) - np.asarray(alone)).max() / np.abs(alone).max()
        assert error <= MESH_ERROR, (dispatch, name, error)
print("equal")
"""


@pytest.mark.multi
def test_loss_and_gradients_over_a_mesh_of_eight_devices_equal_one_device():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    done = subprocess.run([sys.executable, "-c", MESHED], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("equal"), done.stderr[-3000:]
