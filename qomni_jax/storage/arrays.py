"""Our arrays, filled or emptied a block at a time on the devices that hold them."""

from collections.abc import Mapping, Sequence
import functools
import itertools
import math
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

_ALIGNMENT = 64


class Target:
    """An array to be filled: each device's part is allocated once and written in place.

    On a CPU device the part is host memory that the finished array takes over; elsewhere blocks are sent to it.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, sharding: jax.sharding.Sharding | None = None):
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self._sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        self._starts: dict[jax.Device, tuple[int, ...]] = {}
        self._parts: dict[jax.Device, Any] = {}
        for device, index in self._sharding.addressable_devices_indices_map(self.shape).items():
            bounds = [axis.indices(size)[:2] for axis, size in zip(index or (), self.shape, strict=True)]
            self._starts[device] = tuple(first for first, _ in bounds)
            part = [last - first for first, last in bounds]
            self._parts[device] = (
                _aligned(part, self.dtype) if _on_host(device) else jnp.zeros(part, self.dtype, device=device)
            )

    def write(self, place: Sequence[int], block: np.ndarray) -> None:
        """`self[place : place + block.shape] = block`, wherever these elements lie."""
        for device, part in self._parts.items():
            start = self._starts[device]
            first = np.maximum(place, start)
            last = np.minimum(np.add(place, block.shape), np.add(start, part.shape))
            if np.all(first < last):
                piece = block[_slices(first - place, last - place)]
                if isinstance(part, np.ndarray):
                    part[_slices(first - start, last - start)] = piece
                else:
                    piece = np.ascontiguousarray(piece, self.dtype)
                    at = jnp.asarray(first - start, jnp.int32, device=device)
                    # Waiting keeps one block in flight: the next one is read once this one has arrived.
                    self._parts[device] = _write(part, piece, at).block_until_ready()

    def finish(self) -> Array:
        """The array; the target must not be used afterwards."""
        parts = [jax.device_put(part, device, may_alias=True) for device, part in self._parts.items()]
        return jax.make_array_from_single_device_arrays(self.shape, self._sharding, parts)


def read(array: Array, place: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """`array[place : place + shape]` on the host; of an array that is whole on a CPU device, a view."""
    if array.is_fully_replicated and _on_host(next(iter(array.devices()))):
        return np.asarray(array.addressable_data(0))[_slices(np.asarray(place), np.add(place, shape))]
    return np.asarray(_read(array, jnp.asarray(place, jnp.int32), shape))


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a/b": x}` -> `{"a": {"b": x}}`."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The inverse of `nested`."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {prefix + name: value}
    return leaves


def _on_host(device: jax.Device) -> bool:
    return str(getattr(device, "platform", "")) == "cpu"


def _aligned(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Uninitialised memory that begins where XLA wants an array to begin, so that it can be used without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _slices(first: np.ndarray, last: np.ndarray) -> tuple[slice, ...]:
    return tuple(itertools.starmap(slice, zip(first, last, strict=True)))


@functools.partial(jax.jit, donate_argnums=0)
def _write(part: Array, block: Array, place: Array) -> Array:
    return jax.lax.dynamic_update_slice(part, block, [place[axis] for axis in range(part.ndim)])


@functools.partial(jax.jit, static_argnums=2)
def _read(array: Array, place: Array, shape: tuple[int, ...]) -> Array:
    return jax.lax.dynamic_slice(array, [place[axis] for axis in range(array.ndim)], shape)
