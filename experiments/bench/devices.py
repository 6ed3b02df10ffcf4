"""One machine's cores as JAX devices, so that heads and hidden units are spread over them as over chips."""

from collections.abc import Callable
import os
from typing import Any

import jax
from jax.sharding import NamedSharding

from qomni_jax.layers.linear import unbox
from qomni_jax.parallel.mesh import make_mesh
from qomni_jax.parallel.rules import parameter_shardings, partition_spec


def use_mesh(text: str) -> None:
    """Spreads what follows over a mesh axis of several devices, such as `tensor=2`; before anything asks for a device.

    Raises ValueError for text of another form.
    """
    axis, _, size = text.partition("=")
    if axis not in ("data", "tensor") or not size.isdigit() or int(size) < 2:
        raise ValueError(f"--mesh={text}: accepted is data=N or tensor=N, N from 2 on")
    jax.config.update("jax_num_cpu_devices", int(size))
    jax.set_mesh(make_mesh(**{axis: int(size)}, devices=jax.devices()[: int(size)]))


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def place(x: Any, *names: str | None) -> jax.Array:
    """`x` with its named axes spread over the mesh, as `parallel.rules` says; where there is none, as it is."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return jax.numpy.asarray(x)
    return jax.device_put(x, NamedSharding(mesh, partition_spec(mesh, names, x.shape)))


def initialise(init: Callable[[], Any]) -> Any:
    """Plain parameters of `init`, whose arrays carry axis names, spread over the mesh."""
    mesh = jax.sharding.get_mesh()
    places = None if mesh.empty else parameter_shardings(mesh, jax.eval_shape(init))
    return jax.jit(lambda: unbox(init()), out_shardings=places)()
