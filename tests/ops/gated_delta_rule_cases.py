"""The cases that every form of the gated delta rule passes: subclass `GatedDeltaRuleCases` and name a backend.

The oracle of values is a recurrence in NumPy float64; that of gradients is automatic differentiation of the reference,
which golden values of another implementation check in turn.
"""

import itertools
import pathlib

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from qomni_jax.ops.gated_delta_rule import gated_delta_rule
from qomni_jax.ops.norms import l2_normalize

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "goldens" / "op_gdn" / "golden.safetensors"
NAMES = ("q", "k", "v", "g", "beta", "initial_state")

Inputs = tuple[np.ndarray, ...]  # q, k, v, g, beta, initial_state


def random_inputs(steps: int, batch: int = 2, key_heads: int = 2, value_heads: int = 4, dk: int = 16, dv: int = 24):
    """Unit keys in random directions, decay exp(-softplus(N)), beta sigmoid(N), a state of unit variance."""
    rng = np.random.default_rng(steps)
    q, k = rng.normal(size=(2, batch, steps, key_heads, dk))
    v = rng.normal(size=(batch, steps, value_heads, dv))
    g = -np.logaddexp(0.0, rng.normal(size=(batch, steps, value_heads)))
    beta = 1 / (1 + np.exp(-rng.normal(size=(batch, steps, value_heads))))
    state = rng.normal(size=(batch, value_heads, dk, dv))
    return tuple(x.astype(np.float32) for x in (unit(q), unit(k), v, g, beta, state))


def correlated_inputs(steps: int, heads: int = 2, dim: int = 64) -> Inputs:
    """Keys that are nearly one direction, beta 0.99, weak decay: row sums of L come near the chunk's length."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(1, 1, heads, dim))
    k = unit(common + 0.1 * rng.normal(size=(1, steps, heads, dim)))
    q = unit(rng.normal(size=k.shape))
    v = rng.normal(size=k.shape)
    g = np.full((1, steps, heads), -1e-4)
    beta = np.full((1, steps, heads), 0.99)
    return tuple(x.astype(np.float32) for x in (q, k, v, g, beta, np.zeros((1, heads, dim, dim))))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def recurrence(q, k, v, g, beta, state, segment_ids=None) -> tuple[np.ndarray, np.ndarray]:
    """The definition, in float64."""
    q, k, v, g, beta, state = (np.asarray(x, np.float64) for x in (q, k, v, g, beta, state))
    group = v.shape[2] // q.shape[2]
    q, k = np.repeat(q, group, 2) * q.shape[-1] ** -0.5, np.repeat(k, group, 2)
    o = np.zeros(v.shape)
    for t in range(v.shape[1]):
        if segment_ids is not None and t:
            state = np.where((segment_ids[:, t] != segment_ids[:, t - 1])[:, None, None, None], 0.0, state)
        state = np.exp(g[:, t])[..., None, None] * state
        error = beta[:, t][..., None] * (v[:, t] - np.einsum("bhk,bhkv->bhv", k[:, t], state))
        state = state + np.einsum("bhk,bhv->bhkv", k[:, t], error)
        o[:, t] = np.einsum("bhk,bhkv->bhv", q[:, t], state)
    return o, state


def relative_error(actual, expected) -> float:
    return float(np.linalg.norm(np.asarray(actual, np.float64) - expected) / np.linalg.norm(expected))


class GatedDeltaRuleCases:
    """`backend` is the form under test; tolerances are for float32, sums of chunk_size * DK products reordered."""

    backend: str
    chunk_size = 16
    atol = 2e-5
    gradient_atol = 5e-5

    def run(self, *args: Array, **options) -> tuple[Array, Array]:
        options = {"backend": self.backend, "chunk_size": self.chunk_size} | options
        return jax.jit(lambda *xs: gated_delta_rule(*xs, **options))(*args)

    def gradients(self, args, segment_ids=None, **options) -> tuple[Array, ...]:
        """Of every input, from cotangents of the output and of the final state that differ everywhere."""
        options = {"backend": self.backend, "chunk_size": self.chunk_size} | options

        def loss(*xs):
            o, state = gated_delta_rule(*xs, segment_ids, **options)
            return jnp.sum(jnp.sin(o)) + jnp.sum(jnp.cos(state))

        return jax.jit(jax.grad(loss, argnums=range(6)))(*args)

    def assert_gradients(self, actual, expected):
        for name, a, b in zip(NAMES, actual, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=self.gradient_atol * max(1.0, np.abs(b).max()), err_msg=name)

    @pytest.mark.parametrize("steps", [1, 3, 16, 37])
    def test_values_are_those_of_the_recurrence(self, steps):
        args = random_inputs(steps)
        o, state = self.run(*args)
        expected, last = recurrence(*args)
        np.testing.assert_allclose(o, expected, atol=self.atol)
        np.testing.assert_allclose(state, last, atol=self.atol)
        assert state.dtype == jnp.float32

    def test_gradients_of_every_input_are_those_of_the_recurrence(self):
        args = random_inputs(21)
        self.assert_gradients(self.gradients(args), self.gradients(args, backend="reference"))

    def test_as_many_value_heads_as_key_heads(self):
        args = random_inputs(19, key_heads=3, value_heads=3)
        for a, b in zip(self.run(*args), recurrence(*args), strict=True):
            np.testing.assert_allclose(a, b, atol=self.atol)
        self.assert_gradients(self.gradients(args), self.gradients(args, backend="reference"))

    def test_scaling_to_unit_length_is_that_of_the_norm_before_the_rule(self):
        q, k, *rest = random_inputs(37)
        args = (3.0 * q, 0.2 * k, *rest)
        segments = np.repeat([[0, 1]], [20, 17], axis=1).repeat(q.shape[0], axis=0)

        def run(inside, *xs):
            xs = xs if inside else (l2_normalize(xs[0]), l2_normalize(xs[1]), *xs[2:])
            backend = self.backend if inside else "reference"
            return gated_delta_rule(*xs, segments, backend=backend, chunk_size=self.chunk_size, normalize=inside)

        def gradients(inside):
            return jax.jit(jax.grad(lambda *xs: jnp.sum(jnp.sin(run(inside, *xs)[0])), argnums=range(6)))(*args)

        for a, b in zip(run(True, *args), run(False, *args), strict=True):
            np.testing.assert_allclose(a, b, atol=self.atol)
        self.assert_gradients(gradients(True), gradients(False))

    def test_golden_values_and_gradients(self):
        x = load_file(GOLDEN)

        def forward(q, k, v, g, beta, state):
            options = {"backend": self.backend, "chunk_size": self.chunk_size}
            return gated_delta_rule(q, k, v, g, beta, state, normalize=True, **options)

        @jax.jit
        def values_and_gradients(args, cotangents):
            outputs, pull = jax.vjp(forward, *args)
            return outputs, pull(cotangents)

        args = tuple(x[n] for n in ("q", "k", "v", "g", "beta", "s0"))
        outputs, gradients = values_and_gradients(args, (x["do"], x["ds"]))
        names = ("o", "s", "dq", "dk", "dv", "dg", "dbeta", "ds0")
        for name, actual in zip(names, (*outputs, *gradients), strict=True):
            rms = np.sqrt(np.mean(np.square(x[name])))
            np.testing.assert_allclose(actual, x[name], atol=2e-5 + 2e-5 * rms, rtol=2e-5, err_msg=name)

    def test_packed_segments_equal_separate_sequences(self):
        q, k, v, g, beta, state = random_inputs(45, batch=1)
        borders = [0, 7, 18, 19, 45]  # within a chunk, one token long, over chunks
        segments = np.repeat(np.arange(4), np.diff(borders))[None]
        packed, last = self.run(q, k, v, g, beta, state, segments)
        for part, (start, end) in enumerate(itertools.pairwise(borders)):
            cut = [x[:, start:end] for x in (q, k, v, g, beta)]
            alone, alone_last = recurrence(*cut, state if part == 0 else np.zeros_like(state))
            np.testing.assert_allclose(packed[:, start:end], alone, atol=self.atol)
        np.testing.assert_allclose(last, alone_last, atol=self.atol)

    def test_gradients_stop_at_segment_borders(self):
        args = random_inputs(40)
        segments = np.stack([np.repeat([0, 1, 5], [7, 26, 7]), np.repeat([2, 3], [32, 8])])
        actual = self.gradients(args, segments)
        self.assert_gradients(actual, self.gradients(args, segments, backend="reference"))
        q, k, v, g, beta, state = (x.copy() for x in args)
        v[0, :7] += 1.0  # another first document
        changed = self.gradients((q, k, v, g, beta, state), segments)
        np.testing.assert_array_equal(changed[2][0, 7:], actual[2][0, 7:])

    def test_a_sequence_cut_in_three_goes_on_from_its_state(self):
        q, k, v, g, beta, state = random_inputs(24)
        expected, last = recurrence(q, k, v, g, beta, state)
        outputs = []
        for start, end in itertools.pairwise((0, 17, 18, 24)):  # many tokens, one token, a few tokens
            o, state = self.run(*(x[:, start:end] for x in (q, k, v, g, beta)), state)
            outputs.append(o)
        np.testing.assert_allclose(np.concatenate(outputs, 1), expected, atol=self.atol)
        np.testing.assert_allclose(state, last, atol=self.atol)

    def test_correlated_keys_lose_no_digits(self):
        args = correlated_inputs(128)
        o, state = self.run(*args, chunk_size=64)
        expected, last = recurrence(*args)
        assert relative_error(o, expected) < 5e-6  # a recurrence in float32 is off by about 1.5e-6
        assert relative_error(state, last) < 5e-6

    def test_strong_decay_neither_overflows_nor_breaks_gradients(self):
        q, k, v, g, beta, state = random_inputs(33)
        g = 60.0 * g  # exp of the running sum underflows, its inverse would overflow
        for a, b in zip(self.run(q, k, v, g, beta, state), recurrence(q, k, v, g, beta, state), strict=True):
            np.testing.assert_allclose(a, b, atol=self.atol)
        args = (q, k, v, g, beta, state)
        self.assert_gradients(self.gradients(args), self.gradients(args, backend="reference"))

    def test_bfloat16_in_gives_bfloat16_out_and_a_float32_state(self):
        args = random_inputs(20)
        q, k, v = (jnp.asarray(x, jnp.bfloat16) for x in args[:3])
        o, state = self.run(q, k, v, *args[3:])
        assert (o.dtype, state.dtype) == (jnp.bfloat16, jnp.float32)
        expected, last = recurrence(*(np.asarray(x, np.float32) for x in (q, k, v)), *args[3:])
        assert relative_error(o, expected) < 2e-2  # a bfloat16 has 8 bits: 2^-9 an operand
        assert relative_error(state, last) < 2e-2
