"""What the tests of the dispatches run in processes of their own: cases on eight devices, and a layer for a TPU."""

import functools
import json
import sys
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.decoder import FeedForwardConfig
from qomni_jax.layers.feed_forward import MixtureOfExperts
from qomni_jax.ops.moe import expert_mlp
from qomni_jax.parallel import experts as dispatches
from qomni_jax.parallel.mesh import make_mesh
from qomni_jax.parallel.rules import parameter_shardings, partition_spec

DIM, INNER = 6, 5
CASES: dict[str, dict[str, Any]] = {
    "every expert is chosen": {},
    "kernels": {"backend": "pallas_tpu", "tokens": 16},
    "more experts a token than a device has": {"num_experts": 8, "top_k": 5},
    "all on one device, in many rounds": {"only": (6, 7), "headroom": 0.3},
    "devices without a token": {"only": (0, 1, 4), "tokens": 24},
    "tokens that the devices do not divide": {"tokens": 13},
    "a token": {"tokens": 1},
    "other axes beside": {"mesh": {"fsdp": 2, "expert": 2, "tensor": 2}, "num_experts": 6, "top_k": 3},
    "experts over two axes": {"mesh": {"fsdp": 2, "expert": 2, "tensor": 2}},
    "experts over the tensor axis, few tokens": {"mesh": {"fsdp": 2, "tensor": 4}, "tokens": 6},
    "an axis of size one": {"mesh": {"data": 8}},
}


def arguments(tokens: int = 40, num_experts: int = 8, top_k: int = 2, only: tuple[int, ...] = (), **_: Any) -> Any:
    """`x, experts, weights, gate_up, down` of a case; `only` these experts are chosen."""
    rng = np.random.default_rng(tokens)
    normal = functools.partial(rng.standard_normal, dtype=np.float32)
    among = np.asarray(only or range(num_experts))
    chosen = among[np.argsort(normal((tokens, len(among))), axis=1)[:, :top_k]].astype(np.int32)
    weights = rng.uniform(0.1, 1.0, (tokens, top_k)).astype(np.float32)
    gate_up = normal((num_experts, DIM, 2 * INNER)) / np.float32(DIM**0.5)
    return normal((tokens, DIM)), chosen, weights, gate_up, normal((num_experts, INNER, DIM)) / np.float32(INNER**0.5)


def output_and_gradients(function: Any, x: Any, chosen: Any, *rest: Any) -> list[Any]:
    """The output, and gradients of x, weights and both matrices."""

    def loss(x: Any, *rest: Any) -> Any:
        y = function(x, chosen, *rest)
        return jnp.sum(jnp.sin(y)), y

    gradients, y = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True))(x, *rest)
    return [y, *gradients]


def exchange_by_gathering(operand, output, input_offsets, send_sizes, output_offsets, recv_sizes, *, axis_name):
    """`jax.lax.ragged_all_to_all` as its documentation defines it, of operations that a CPU has; for one slice a
    device. Where a receiver expects another size than is sent to it, the result is NaN."""
    device = jax.lax.axis_index(axis_name)
    gather = functools.partial(jax.lax.all_gather, axis_name=axis_name)
    operands, starts, sizes, places = map(gather, (operand, input_offsets, send_sizes, output_offsets))
    at = jnp.arange(output.shape[0])
    for sender in range(operands.shape[0]):
        offset = at - places[sender, device]
        inside = (offset >= 0) & (offset < sizes[sender, device])
        rows = operands[sender][jnp.where(inside, starts[sender, device] + offset, 0)]
        rows = jnp.where(sizes[sender, device] == recv_sizes[sender], rows, jnp.nan)
        output = jnp.where(inside[:, None], rows, output)
    return output


def run_cases(dispatch: str, path: str) -> None:
    """Every case on eight devices; writes `case/number` -> array. The ragged exchange is the one above on a CPU."""
    if dispatch == "ragged" and jax.default_backend() == "cpu":
        jax.lax.ragged_all_to_all = exchange_by_gathering
        dispatches._require_ragged_all_to_all = lambda mesh: None
    found = {}
    for name, case in CASES.items():
        mesh = make_mesh(**case.get("mesh", {"data": 2, "expert": 4}))
        product = functools.partial(expert_mlp, backend=case.get("backend", "auto"), block_size=4)
        dispatched = functools.partial(
            dispatches.dispatch_experts, dispatch, product, headroom=case.get("headroom", 2.0)
        )
        with jax.set_mesh(mesh):
            for number, array in enumerate(output_and_gradients(dispatched, *arguments(**case))):
                found[f"{name}/{number}"] = np.asarray(array)
    np.savez(path, **found)


def compile_layer(topology: str, dispatch: str) -> dict[str, Any]:
    """The gradient of a whole layer, compiled for a TPU that is not there; how often its program exchanges rows."""
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = make_mesh(data=2, expert=len(devices) // 2, devices=devices)
    config = FeedForwardConfig(
        hidden_dim=128, num_experts=8, top_k=2, expert_dim=128, backend="pallas_tpu", dispatch=dispatch
    )
    layer = MixtureOfExperts(config)

    def shaped(*shape: int, dtype: Any) -> jax.ShapeDtypeStruct:
        spec = partition_spec(mesh, ("batch", *(None for _ in shape[1:])), shape)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.NamedSharding(mesh, spec))

    def loss(params: Any, x: Any, mask: Any) -> Any:
        return jnp.sum(jnp.square(layer.apply(params, x, mask)[0].astype(jnp.float32)))

    x, mask = shaped(8, 64, 256, dtype=jnp.bfloat16), shaped(8, 64, dtype=jnp.float32)
    with jax.set_mesh(mesh):
        boxed = jax.eval_shape(lambda x, mask: layer.init(jax.random.key(0), x, mask), x, mask)
        params = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16, sharding=sharding),
            nn.meta.unbox(boxed),
            parameter_shardings(mesh, boxed),
        )
        compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(params, x, mask).compile()
    text = compiled.as_text()
    return {"exchanges": text.count(" ragged-all-to-all("), "gathers": text.count(" all-gather(")}


if __name__ == "__main__":
    run_cases(*json.loads(sys.argv[1]))
