"""The Pallas kernels of the gated delta rule without a TPU: static bundles, memory, and errors in interpret mode.

Claim: at D = 128 and bfloat16 the forward needs at most 5.0 static bundles per token and head, the backward 8.0, the
forward with convolution, L2 norm and gates 6.5, on v5e and v5p; one layer of 32 heads at 256k tokens, its gradients
written over its inputs, stays under 12 GiB. Bundles are a compiler's schedule (see `experiments.bench.llo`), not times.

Cost: about four minutes on two cores; needs the `aot` extra. Command:

    python -m experiments.bench.gated_delta_rule_aot --json=F

With `--grid`, instead: forward and backward compiled for every chip, head count and length of `GRID`, and the peak
memory of each; about ten minutes.
"""

import argparse
from collections.abc import Callable
import functools
import itertools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.llo import KernelCost, compile_in_child
from qomni_jax.ops.gated_delta_rule.pallas_tpu import MAX_HEADS, gated_delta_rule_fused, gated_delta_rule_pallas_tpu
from qomni_jax.ops.gated_delta_rule.reference import gated_delta_rule_reference

TOPOLOGIES = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
KERNELS = {
    "fwd": ["gated_delta_rule_forward"],
    "bwd": ["gated_delta_rule_forward", "gated_delta_rule_backward"],
    "fused": ["gated_delta_rule_fused"],
}
CHUNK, DIM = 64, 128
GRID = (("v5e", "v5p", "v6e"), (16, 32, 64), (1 << 12, 1 << 14, 1 << 16, 1 << 18))  # chips, value heads, tokens
HERE = "experiments.bench.gated_delta_rule_aot"


def compile_on(generation: str, direction: str, key_heads: int, heads: int, steps: int, donate: bool = False) -> dict:
    """Compiles `fwd`, `bwd` (forward and backward) or `fused` for one chip; bytes of memory. Runs in a child process.

    q, k, v stand as projections leave them, `[B, T, H D]` bfloat16. With `donate` they may be overwritten, as the
    recomputed activations of a layer may.
    """
    from jax.experimental import topologies  # loads libtpu

    topology = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGIES[generation])
    mesh = jax.sharding.Mesh(np.array(topology.devices[:1]), ("chip",))
    chip = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def shaped(*shape: int, dtype: Any = jnp.bfloat16) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=chip)

    keys, values = shaped(1, steps, key_heads * DIM), shaped(1, steps, heads * DIM)
    gate = shaped(1, steps, heads, dtype=jnp.float32)
    zeros = (1, heads, DIM, DIM)

    def forward(q: Any, k: Any, v: Any, g: Any, beta: Any) -> jax.Array:
        q, k, v = (x.reshape(1, steps, -1, DIM) for x in (q, k, v))
        o, _ = gated_delta_rule_pallas_tpu(q, k, v, g, beta, jnp.zeros(zeros), None, chunk_size=CHUNK)
        return o.reshape(1, steps, -1)

    def gradients(*args: Any):  # their cotangent comes last: donated inputs are matched to outputs in order
        return jax.vjp(forward, *args[:-1])[1](args[-1])

    def fused(mixed, weight, a, b, a_log, dt_bias):
        past, first = jnp.zeros((1, 3, mixed.shape[-1]), mixed.dtype), jnp.zeros(zeros)
        arrays = (mixed, weight, a, b, a_log, dt_bias, past, first)
        return gated_delta_rule_fused(*arrays, None, key_heads=key_heads, value_heads=heads, key_dim=DIM)[0]

    channels = 2 * keys.shape[-1] + values.shape[-1]
    head = shaped(heads, dtype=jnp.float32)
    cases: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "fwd": (forward, (keys, keys, values, gate, gate)),
        "bwd": (gradients, (keys, keys, values, gate, gate, values)),
        "fused": (fused, (shaped(1, steps, channels), shaped(4, channels), gate, gate, head, head)),
    }
    function, arguments = cases[direction]
    donated = tuple(range(len(arguments))) if donate else ()
    compiled = jax.jit(function, donate_argnums=donated, out_shardings=chip).lower(*arguments).compile()
    memory: Any = compiled.memory_analysis()
    return {"peak_bytes": memory.peak_memory_in_bytes, "temp_bytes": memory.temp_size_in_bytes}


def row(case: str, ours: float | None, unit: str, target: float | None, **fields: Any) -> dict[str, Any]:
    return {"case": case, "ours": ours, "peer": None, "ratio": None, "unit": unit, "higher_is_better": False} | {
        "target": target,
        **fields,
    }


def bundle_row(case: str, cost: KernelCost, heads: int, target: float | None) -> dict[str, Any]:
    return row(
        case,
        cost.bundles / (CHUNK * min(heads, MAX_HEADS)),
        "bundles/token-head",
        target,
        matrix_share=cost.matrix_share,
        spill_share=cost.spill_share,
        vmem_bytes=cost.vmem_bytes,
    )


def bundle_rows(generation: str, key_heads: int, heads: int = 32, steps: int = 8192) -> list[dict[str, Any]]:
    rows = []
    shape = f"HK={key_heads} HV={heads} T={steps} bf16 {generation}"
    for direction, target in (("fwd", 5.0), ("bwd", 8.0), ("fused", 6.5)):
        arguments = {"generation": generation, "direction": direction, "key_heads": key_heads, "heads": heads}
        _, costs = compile_in_child(f"{HERE}:compile_on", arguments | {"steps": steps}, KERNELS[direction])
        cost = costs[KERNELS[direction][-1]]
        rows.append(bundle_row(f"{direction} {shape}", cost, heads, target))
        if direction == "bwd":
            rows.append(bundle_row(f"fwd keeping states {shape}", costs[KERNELS["fwd"][0]], heads, None))
    return rows


def memory_rows(generation: str) -> list[dict[str, Any]]:
    rows = []
    for donate, target in ((True, 12.0), (False, None)):
        arguments = {"generation": generation, "direction": "bwd", "key_heads": 32, "heads": 32, "steps": 1 << 18}
        memory, _ = compile_in_child(f"{HERE}:compile_on", arguments | {"donate": donate}, [])
        how = "gradients over inputs" if donate else "inputs kept"
        case = f"memory fwdbwd T=262144 H=32 bf16 {generation}, {how}"
        rows.append(row(case, memory["peak_bytes"] / 2**30, "GiB", target))
    return rows


def error_rows(steps: int = 512, heads: int = 16) -> list[dict[str, Any]]:
    """Errors against the float32 recurrence, in interpret mode: keys of one direction, beta 0.99, weak decay."""
    rng = np.random.default_rng(0)
    shape = (1, steps, heads, DIM)
    k = rng.normal(size=(1, 1, heads, DIM)) + 0.1 * rng.normal(size=shape)
    k, q = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (k, rng.normal(size=shape)))
    drawn = (q, k, rng.normal(size=shape), rng.normal(size=shape))
    q_low, k_low, v_low, do = (jnp.asarray(x, jnp.bfloat16).astype(jnp.float32) for x in drawn)
    a = jnp.asarray(rng.normal(size=shape[:3]), jnp.float32)
    a_log = jnp.log(jnp.asarray(rng.uniform(0.001, 0.02, heads), jnp.float32))
    dt_bias = jnp.full((heads,), -3.0)
    first = jnp.zeros((1, heads, DIM, DIM))

    def outputs(rule: Callable[..., Any], dtype: Any) -> list[np.ndarray]:
        def loss(a_log, dt_bias):
            g = -jnp.exp(a_log) * jax.nn.softplus(a + dt_bias)
            low = [x.astype(dtype) for x in (q_low, k_low, v_low)]
            o, _ = rule(*low, g, jnp.full(shape[:3], 0.99), first)
            return jnp.sum(o.astype(jnp.float32) * do), o

        gradients, o = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(a_log, dt_bias)
        return [np.asarray(x, np.float64) for x in (o, *gradients)]

    segments = jnp.zeros(shape[:2], jnp.int32)
    with jax.default_matmul_precision("highest"):
        exact = outputs(
            functools.partial(gated_delta_rule_reference, segment_ids=segments, chunk_size=CHUNK), jnp.float32
        )
    rows = []
    for name, dtype, target in (("bf16", jnp.bfloat16, 2e-2), ("fp32", jnp.float32, 2e-6)):
        actual = outputs(functools.partial(gated_delta_rule_pallas_tpu, segment_ids=None, chunk_size=CHUNK), dtype)
        error = float(np.linalg.norm(actual[0] - exact[0]) / np.linalg.norm(exact[0]))
        rows.append(row(f"output error, correlated keys, {name}", error, "relative", target))
        for gradient, x, y in zip(("A_log", "dt_bias"), actual[1:], exact[1:], strict=True):
            cosine = float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
            rows.append(row(f"gradient of {gradient}, correlated keys, {name}", 1 - cosine, "1 - cosine", 1e-3))
    return rows


def grid_rows(generations: tuple[str, ...], heads: tuple[int, ...], lengths: tuple[int, ...]) -> list[dict[str, Any]]:
    """One row a case, printed as it comes: the peak memory, or why the compiler refuses."""
    rows = []
    for generation, count, steps in itertools.product(generations, heads, lengths):
        arguments = {"generation": generation, "direction": "bwd", "key_heads": 16, "heads": count, "steps": steps}
        case, peak, refused = f"compile fwdbwd HK=16 HV={count} T={steps} bf16 {generation}", None, None
        try:
            memory, _ = compile_in_child(f"{HERE}:compile_on", arguments | {"donate": True}, [])
            peak = memory["peak_bytes"] / 2**30
        except RuntimeError as error:
            refused = next((line for line in str(error).splitlines() if "exceed" in line), str(error))[-300:]
        rows.append(row(case, peak, "GiB", None, refused=refused))
        print(f"{case:60} {f'{peak:.2f} GiB' if peak is not None else f'refused: {refused}'}", flush=True)
    return rows


def run(generations: tuple[str, ...] = ("v5e", "v5p")) -> list[dict[str, Any]]:
    rows = error_rows()
    for generation in generations:
        for key_heads in (32, 16):
            rows += bundle_rows(generation, key_heads)
        rows += memory_rows(generation) if generation == "v5p" else []
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--grid", action="store_true", help="compile every case of GRID instead")
    args = parser.parse_args()
    path = args.json
    jax.config.update("jax_platforms", "cpu")  # the errors are those of interpret mode, also beside a TPU
    rows = grid_rows(*GRID) if args.grid else run()
    for r in [] if args.grid else rows:
        more = {key: round(r[key], 3) for key in ("matrix_share", "spill_share", "vmem_bytes") if key in r}
        print(f"{r['case']:60} {r['ours']:.4g} {r['unit']} (at most {r['target']}) {more or ''}", flush=True)
    path.write_text(json.dumps({"bench": "gated_delta_rule", "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
