"""Residual vector quantiser: shapes, nearest neighbours, training gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.codec.rvq import RVQ, lookup, quantize
from qomni_jax.config.codec import CodecConfig, RVQConfig

CONFIG = RVQConfig(stack=4, latent_dim=6, num_codebooks=3, codebook_size=8)
MELS = 5


@pytest.fixture(scope="module")
def params():
    variables = RVQ(CONFIG, MELS).init(jax.random.key(0), jnp.zeros((1, 4, MELS)))
    return jax.tree.map(lambda box: box.unbox(), variables["params"], is_leaf=lambda leaf: hasattr(leaf, "unbox"))


@pytest.fixture(scope="module")
def mel():
    return jax.random.normal(jax.random.key(1), (2, 12, MELS))


def apply(params, *inputs, method=None):
    return RVQ(CONFIG, MELS).apply({"params": params}, *inputs, method=method)


def test_shapes(params, mel):
    codes = apply(params, mel, method="encode")
    assert codes.shape == (2, 3, 3)
    assert codes.dtype == jnp.int32
    assert apply(params, codes, method="decode").shape == mel.shape


def test_codes_equal_brute_force():
    generator = np.random.default_rng(0)
    latents = generator.normal(size=(20, 6)).astype(np.float32)
    codebooks = generator.normal(size=(3, 8, 6)).astype(np.float32)
    expected, residual = [], latents.copy()
    for codebook in codebooks:
        labels = ((residual[:, None] - codebook) ** 2).sum(-1).argmin(1)
        residual -= codebook[labels]
        expected.append(labels)
    codes, entries = quantize(jnp.asarray(latents), jnp.asarray(codebooks))
    np.testing.assert_array_equal(codes, np.stack(expected, 1))
    np.testing.assert_allclose(entries.sum(1), latents - residual, atol=1e-5)
    np.testing.assert_allclose(lookup(codes, jnp.asarray(codebooks)), entries.sum(1), atol=1e-5)


def test_training_output_is_what_the_codes_decode_to(params, mel):
    outputs = apply(params, mel)
    np.testing.assert_array_equal(outputs["codes"], apply(params, mel, method="encode"))
    np.testing.assert_allclose(outputs["mel"], apply(params, outputs["codes"], method="decode"), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("mel", {"analysis", "mean", "codebooks", "synthesis", "bias"}),
        ("commitment", {"analysis", "mean"}),
        ("codebook", {"codebooks"}),
    ],
)
def test_gradients_reach_what_each_output_trains(params, mel, name, reached):
    gradients = jax.grad(lambda p: (apply(p, mel)[name] ** 2).sum())(params)
    assert {key for key, value in gradients.items() if np.abs(value).max() > 0} == reached


def test_only_chosen_entries_receive_gradient(params, mel):
    outputs = apply(params, mel)
    gradients = jax.grad(lambda p: (apply(p, mel)["mel"] ** 2).sum())(params)["codebooks"]
    for level in range(3):
        moved = set(np.flatnonzero(np.abs(gradients[level]).sum(-1)).tolist())
        assert moved == set(np.asarray(outputs["codes"][..., level]).ravel().tolist())


@pytest.mark.parametrize(
    ("field", "value"), [("codebook_size", 1), ("codebook_size", 65_537), ("num_codebooks", 0), ("stack", -1)]
)
def test_wrong_configs_are_refused(field, value):
    with pytest.raises(ValueError, match=f"RVQConfig.{field} = {value}: accepted is"):
        RVQConfig(**{field: value})


def test_a_latent_wider_than_the_frames_is_refused():
    with pytest.raises(ValueError, match=r"rvq.latent_dim = 641: accepted is at most .* = 640"):
        CodecConfig(rvq=RVQConfig(latent_dim=641))
