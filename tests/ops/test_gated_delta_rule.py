"""The forms for CPUs and GPUs pass the cases; the chunked one stays exact and linear; bad input is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.ops.gated_delta_rule import gated_delta_rule, xla
from qomni_jax.ops.gated_delta_rule.inverse import unit_lower_inverse
from tests.ops.gated_delta_rule_cases import GatedDeltaRuleCases, correlated_inputs, random_inputs, recurrence


class TestReference(GatedDeltaRuleCases):
    backend = "reference"


class TestXla(GatedDeltaRuleCases):
    backend = "xla"

    @pytest.mark.parametrize("limit", [1, 4 * 16 * 24 * 4, 4 * 16 * 24 * 8])
    def test_tiles_of_heads_or_rows_give_the_same(self, monkeypatch, limit):
        """One key head, half of a row's heads, one row at a time."""
        monkeypatch.setattr(xla, "CPU_TILE_BYTES", limit)
        args = random_inputs(33, batch=2, key_heads=4, value_heads=8)
        segments = np.stack([np.repeat([0, 1], [20, 13]), np.repeat([0, 1], [5, 28])])
        for actual, expected in zip(self.run(*args, segments), recurrence(*args, segments), strict=True):
            np.testing.assert_allclose(actual, expected, atol=self.atol)
        self.assert_gradients(self.gradients(args, segments), self.gradients(args, segments, backend="reference"))

    @pytest.mark.parametrize("chunk_size", [1, 2, 32, 64])
    def test_every_chunk_size_gives_the_same(self, chunk_size):
        args = random_inputs(70)
        for actual, expected in zip(self.run(*args, chunk_size=chunk_size), recurrence(*args), strict=True):
            np.testing.assert_allclose(actual, expected, atol=self.atol)

    def test_memory_and_flops_of_the_backward_pass_are_linear_in_time(self):
        def compiled(steps):
            shapes = [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in random_inputs(8, dk=32, dv=32)]
            shapes = [jax.ShapeDtypeStruct((2, steps, *x.shape[2:]), x.dtype) for x in shapes[:5]] + shapes[5:]

            def loss(*xs):
                return jnp.sum(gated_delta_rule(*xs, backend="xla")[0])

            return jax.jit(jax.grad(loss, argnums=range(6))).lower(*shapes).compile()

        short, long = compiled(2048), compiled(8192)
        short_bytes, long_bytes = (c.memory_analysis().temp_size_in_bytes for c in (short, long))
        assert 3.0 < long_bytes / short_bytes < 4.2
        # The saved states, inverses and updates, and the gates, are of the order of the inputs, not of T x T.
        inputs = 2 * 8192 * (2 * 2 * 32 + 4 * 32 + 2 * 4) * 4
        assert long_bytes < 8 * inputs


class TestStep(GatedDeltaRuleCases):
    backend = "step"


def neumann_inverse(lower):
    """(I - L)(I + L^2)(I + L^4)...: exact on paper, since L^C = 0."""
    power, inverse = -lower, np.eye(len(lower), dtype=lower.dtype) - lower
    for _ in range(int(np.log2(len(lower))) - 1):
        power = power @ power
        inverse = inverse + power @ inverse
    return inverse


@pytest.mark.parametrize("alike", [False, True])
def test_the_inverse_is_exact_on_correlated_keys_where_a_neumann_series_is_not(alike):
    _, k, _, _, beta, _ = correlated_inputs(64, heads=1) if alike else random_inputs(64, dk=64)
    keys = k[0, :, 0].astype(np.float64)
    lower = np.tril(beta[0, :, 0, None] * (keys @ keys.T), -1)
    exact = np.linalg.inv(np.eye(64) + lower)
    error, neumann_error = (
        np.abs(inverse(lower.astype(np.float32)) - exact).max()
        for inverse in (jax.jit(unit_lower_inverse), neumann_inverse)
    )
    assert error < 1e-5
    if alike:
        assert np.abs(lower).sum(1).max() > 55
        assert not neumann_error < 1e3  # infinite or not a number counts as well
    else:
        assert neumann_error < 1e-5  # the series itself is right


def test_auto_takes_the_step_form_for_a_few_tokens_and_chunks_beyond(monkeypatch):
    calls = []
    for name in ("step", "xla"):
        monkeypatch.setitem(
            gated_delta_rule.__globals__["BACKENDS"], name, lambda *a, name=name, chunk_size: calls.append(name)
        )
    for steps in (1, 4, 5):
        gated_delta_rule(*random_inputs(steps))
    assert calls == ["step", "step", "xla"]


def drop(x, *axes):
    return x[tuple(slice(0, -1) if axis in axes else slice(None) for axis in range(x.ndim))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"v": a["v"][:, :, :3], "g": a["g"][..., :3], "beta": a["beta"][..., :3]}, "3 value heads.* 2 key"),
        (lambda a: {n: a[n][:, :0] for n in ("q", "k", "v", "g", "beta")}, "no tokens"),
        (lambda a: {"k": drop(a["k"], 3)}, r"k \(2, 6, 2, 15\).*the shape of q"),
        (lambda a: {"v": drop(a["v"], 1)}, r"v \(2, 5, 4, 24\)"),
        (lambda a: {"q": a["q"][0]}, r"q \(6, 2, 16\).*\[B, T, HK, DK\]"),
        (lambda a: {"g": drop(a["g"], 2)}, r"g \(2, 6, 3\).*\[2, 6, 4\]"),
        (lambda a: {"beta": drop(a["beta"], 0)}, r"beta \(1, 6, 4\)"),
        (lambda a: {"initial_state": drop(a["initial_state"], 2)}, r"initial_state \(2, 4, 15, 24\)"),
        (lambda a: {"segment_ids": np.zeros((2, 5), int)}, r"segment_ids \(2, 5\)"),
        (lambda a: {"segment_ids": np.array([[0] * 6, [0, 1, 1, 2, 1, 1]])}, "decrease after token 3 of row 1"),
        (lambda a: {"chunk_size": 12}, "chunk_size 12.*power of two"),
        (lambda a: {"chunk_size": 0}, "chunk_size 0.*power of two"),
        (lambda a: {"backend": "cuda"}, "'cuda'.*auto, reference, xla, pallas_tpu, step"),
    ],
)
def test_bad_input_is_named_with_what_is_accepted(change, message):
    arguments = dict(zip(("q", "k", "v", "g", "beta", "initial_state"), random_inputs(6), strict=True))
    with pytest.raises(ValueError, match=message):
        gated_delta_rule(**arguments | change(arguments))
