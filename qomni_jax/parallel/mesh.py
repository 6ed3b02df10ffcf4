"""The device mesh: five named axes, any of which may have size 1."""

from collections.abc import Sequence
import math
from typing import Any

import jax
from jax.experimental import mesh_utils
import numpy as np

AXES = ("data", "fsdp", "expert", "tensor", "context")


def make_mesh(
    *,
    data: int = 1,
    fsdp: int = 1,
    expert: int = 1,
    tensor: int = 1,
    context: int = 1,
    devices: Sequence[Any] | None = None,
) -> jax.sharding.Mesh:
    """A mesh with the axes `AXES` over `devices` (default: all), in an order that follows their interconnect.

    `data` replicates parameters, `fsdp` spreads them and gathers them for use, `expert` spreads experts, `tensor` heads
    and hidden units, `context` the time axis. Axis types are Auto: Linen's logical constraints need that. On TPUs an
    axis takes whole dimensions of the torus where sizes allow, else parts of them.

    Raises ValueError where the sizes do not multiply to the number of devices.
    """
    sizes = (data, fsdp, expert, tensor, context)
    devices = jax.devices() if devices is None else list(devices)
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        asked = " x ".join(f"{name} {size}" for name, size in zip(AXES, sizes, strict=True))
        raise ValueError(f"mesh {asked}: accepted are sizes whose product is {len(devices)}, the number of devices")
    types = (jax.sharding.AxisType.Auto,) * len(AXES)
    if devices[0].platform == "tpu":
        order = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
        return jax.sharding.Mesh(order, AXES, axis_types=types)
    return jax.sharding.Mesh(np.asarray(devices, object).reshape(sizes), AXES, axis_types=types)
