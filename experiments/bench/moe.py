"""The experts' product on a CPU, form by form.

Claim: the loops (`xla`, the form that a CPU takes) are the fastest of the forms at either size, forward and backward;
`jax.lax.ragged_dot`, which this project does not use, is slower than every form of it.
Cost: about three minutes on two cores, most of it `ragged_dot`.
Command: python -m experiments.bench moe --json=F

Work: float32, each token sent to `top_k` different experts drawn evenly; routing is not timed. `small` has 256 tokens
of 256 channels, 8 experts of width 128, two a token; `mid` is a layer of the `decoder` bench. FLOPs are those of the
products that the routes ask for (6 D F a token and expert, three times that with the backward pass).
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from experiments.bench.timing import Case, jitted
from qomni_jax.ops.moe import expert_mlp
from qomni_jax.ops.moe.grouping import combine, group_by_expert, spread, swiglu

FORMS = ("xla", "blocked", "reference", "ragged_dot")


@dataclasses.dataclass(frozen=True)
class Shape:
    """Tokens and their width, experts, how many of them a token visits, and an expert's width."""

    tokens: int
    dim: int
    num_experts: int
    top_k: int
    inner: int

    @property
    def flops(self) -> float:
        return 6.0 * self.dim * self.inner * self.tokens * self.top_k


SHAPES = {"small": Shape(256, 256, 8, 2, 128), "mid": Shape(2048, 512, 32, 4, 192)}


def cases(repeats: int) -> list[Case]:
    del repeats
    found = []
    for size, shape in SHAPES.items():
        for mode, passes in (("fwd", 1), ("fwdbwd", 3)):
            for form in FORMS:
                name = f"{mode} {size} T={shape.tokens} fp32 {form}"
                found.append(Case(name, functools.partial(_build, shape, mode, form), (), passes * shape.flops))
    return found


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []


def ragged_dot_experts(x: Array, experts: Array, weights: Array, gate_up: Array, down: Array) -> Array:
    """As `ops.moe.expert_mlp`, its grouped products by XLA's own operation."""
    num_experts, inner, _ = down.shape
    groups = group_by_expert(experts, num_experts)
    sizes = groups.end - groups.start
    hidden = jax.lax.ragged_dot(spread(x, groups), gate_up, sizes)
    return combine(jax.lax.ragged_dot(swiglu(hidden[:, :inner], hidden[:, inner:]), down, sizes), weights, groups)


def arguments(shape: Shape) -> tuple[Array, ...]:
    """Tokens, routes, and the experts' weights."""
    rng = np.random.default_rng(0)

    def normal(*size: int, scale: float = 1.0) -> Array:
        return jnp.asarray(scale * rng.standard_normal(size), jnp.float32)

    drawn = np.argsort(rng.uniform(size=(shape.tokens, shape.num_experts)), axis=1)[:, : shape.top_k]
    return (
        normal(shape.tokens, shape.dim),
        jnp.asarray(drawn, jnp.int32),
        jnp.full((shape.tokens, shape.top_k), 1 / shape.top_k),
        normal(shape.num_experts, shape.dim, 2 * shape.inner, scale=shape.dim**-0.5),
        normal(shape.num_experts, shape.inner, shape.dim, scale=shape.inner**-0.5),
    )


def product(form: str) -> Callable[..., Array]:
    """The function behind a form's name."""
    return ragged_dot_experts if form == "ragged_dot" else functools.partial(expert_mlp, backend=form)


def _build(shape: Shape, mode: str, form: str) -> Callable[[], Any]:
    x, chosen, *rest = arguments(shape)

    def forward(x: Array, *rest: Array) -> Array:
        return product(form)(x, chosen, *rest)

    def loss(*args: Array) -> Array:
        return jnp.mean(jnp.square(forward(*args)))

    return jitted(forward if mode == "fwd" else jax.grad(loss, argnums=range(4)), x, *rest)
