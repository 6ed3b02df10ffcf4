"""The gated delta rule on a CPU against transformers' on torch.

Claim: of the chunked form, forward at T = 1k, 4k and 16k is at least 3.0 times as fast as the reference; forward and
backward 2.5 times at 1k and 4.5 times at 4k, and 2.0 times at 4k and 16k against a rewrite of the reference whose
backward pass is linear in T (the reference's is quadratic, and is not run at 16k); 16k costs at most 4.4 times 4k.
Cost: three minutes on two cores with the peer, half a minute without.
Command: python -m experiments.bench gated_delta_rule --peer --mesh=tensor=2 --json=F

Work: B = 1, 8 heads, DK = DV = 128, float32, L2 norm of q and k included, g = logsigmoid(N), beta = sigmoid(N); the
loss of the backward pass is mean(o^2), its gradients those of q, k, v, g and beta. FLOPs are those of the recurrence
(6 DK DV a token and head, three times that with the backward pass): a chunked form does more.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from experiments.bench.devices import place
from experiments.bench.timing import Case, jitted
from qomni_jax.config.decoder import GatedDeltaNetConfig
from qomni_jax.layers.gated_delta_mixing import delta_rule

PEER_MODULE = "experiments.bench.peer_gated_delta_rule"
HEADS, DIM = 8, 128
CONFIG = GatedDeltaNetConfig(
    num_key_heads=HEADS, num_value_heads=HEADS, head_key_dim=DIM, head_value_dim=DIM, chunk_size=64, backend="xla"
)


def cases(repeats: int) -> list[Case]:
    found = []
    for mode, steps, impl in (
        ("fwd", 1024, "transformers"),
        ("fwd", 4096, "transformers"),
        ("fwd", 16384, "transformers"),
        ("fwdbwd", 1024, "transformers"),
        ("fwdbwd", 4096, "transformers"),
        ("fwdbwd", 1024, "rewrite"),
        ("fwdbwd", 4096, "rewrite"),
        ("fwdbwd", 16384, "rewrite"),
    ):
        name = f"{mode} T={steps} fp32" + (" vs rewrite" if impl == "rewrite" else "")
        flops = 6.0 * DIM * DIM * HEADS * steps * (3 if mode == "fwdbwd" else 1)
        form = {"mode": mode, "steps": steps, "impl": impl, "heads": HEADS, "dim": DIM}
        found.append(Case(name, functools.partial(_build, mode, steps), (form,), flops))
    return found


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How cost grows from 4k to 16k; 4 is linear."""
    times = {row["case"]: row["ours"] for row in rows}
    found = []
    for mode, suffix in (("fwd", ""), ("fwdbwd", " vs rewrite")):
        short, long = (times.get(f"{mode} T={steps} fp32{suffix}") for steps in (4096, 16384))
        if short and long:
            case = f"{mode} T=16384 over T=4096 fp32"
            growth = {"case": case, "ours": long / short, "peer": None, "ratio": None}
            found.append(growth | {"unit": "x", "higher_is_better": False})
    return found


def _build(mode: str, steps: int) -> Callable[[], Any]:
    def forward(q: Array, k: Array, v: Array, g: Array, beta: Array) -> tuple[Array, Array]:
        return delta_rule(CONFIG, q, k, v, g, beta, jnp.zeros((1, HEADS, DIM, DIM)))

    def loss(*args: Array) -> Array:
        return jnp.mean(jnp.square(forward(*args)[0]))

    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, steps, HEADS, DIM)).astype(np.float32) for _ in range(3))
    g, beta = (rng.normal(size=(1, steps, HEADS)).astype(np.float32) for _ in range(2))
    names = ("batch", None, "linear_heads")
    args = (
        *(place(x, *names, None) for x in (q, k, v)),
        *(place(x, *names) for x in (np.asarray(jax.nn.log_sigmoid(g)), np.asarray(jax.nn.sigmoid(beta)))),
    )
    return jitted(forward if mode == "fwd" else jax.grad(loss, argnums=range(5)), *args)
