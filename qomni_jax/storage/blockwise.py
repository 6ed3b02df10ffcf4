"""Arrays into and out of an orbax checkpoint, a block at a time.

Orbax's own handler starts all writes of all arrays at once: copies of many chunks wait for the disk together, as many
as threads and disk happen to allow. Here one chunk is in flight, in both directions, and an array that is read is
filled in place. The files are those that orbax writes and reads: an uncompressed zarr array for each of ours.
"""

from collections.abc import Iterator, Sequence
import itertools
from typing import Any

from jax import Array
import orbax.checkpoint as ocp
import tensorstore as ts

from qomni_jax.storage.arrays import Target, read

_CHUNK_BYTES, _MAX_CHUNKS = 4 << 20, 256


def handler() -> ocp.PyTreeCheckpointHandler:
    """Of checkpoints whose leaves are arrays, for one process that sees all of every array."""
    return ocp.PyTreeCheckpointHandler(
        # One file a chunk: the database that orbax writes by default holds all chunks in memory until it commits.
        use_ocdbt=False,
        use_compression=False,
        type_handler_registry=ocp.type_handlers.create_type_handler_registry((Array, _BlockwiseArrays())),
    )


class _BlockwiseArrays(ocp.type_handlers.ArrayHandler):
    async def serialize(self, values: Sequence[Array], infos: Sequence[Any], args: Any = None) -> list[Any]:
        """Writes everything before it returns: nothing is left to wait for."""
        for value, info in zip(values, infos, strict=True):
            await info.await_path_creation()
            chunk = chunk_shape(value.shape, value.dtype.itemsize)
            store = await ts.open(
                _spec(info) | {"metadata": {"compressor": None}},
                create=True,
                dtype=ts.dtype(value.dtype),
                shape=value.shape,
                chunk_layout=ts.ChunkLayout(chunk_shape=chunk),
                context=info.ts_context,
            )
            for place, shape in _blocks(value.shape, chunk):
                block = read(value, place, shape)
                await store[_slices(place, shape)].write(block, can_reference_source_data_indefinitely=True)
        return []

    async def deserialize(self, infos: Sequence[Any], args: Any = None) -> list[Array]:
        """`args`: an `ArrayRestoreArgs` for each, with sharding and dtype."""
        found = []
        for info, arg in zip(infos, args, strict=True):
            store = await ts.open(_spec(info), context=info.ts_context)
            target = Target(store.shape, arg.dtype or store.dtype.numpy_dtype, arg.sharding)
            chunk = tuple(size or 1 for size in store.chunk_layout.read_chunk.shape or ())
            for place, shape in _blocks(store.shape, chunk):
                target.write(place, await store[_slices(place, shape)].read())
            found.append(target.finish())
        return found


def chunk_shape(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Chunks of whole trailing axes, of about 4 MiB or 1 / 256 of the array: each is one piece of the array's memory.

    An array without elements has chunks of one.
    """
    size = itemsize
    for length in shape:
        size *= length
    limit = max(_CHUNK_BYTES, size // _MAX_CHUNKS)
    chunk = [max(length, 1) for length in shape]
    size = max(size, itemsize)
    for axis, length in enumerate(chunk):
        row = size // length
        chunk[axis] = max(1, min(length, limit // row))
        size = row * chunk[axis]
        if chunk[axis] > 1:
            break
    return tuple(chunk)


def _blocks(shape: Sequence[int], chunk: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(place, shape) of every chunk of an array."""
    for place in itertools.product(*(range(0, size, step) for size, step in zip(shape, chunk, strict=True))):
        yield place, tuple(min(c, s - p) for p, c, s in zip(place, chunk, shape, strict=True))


def _slices(place: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + size) for first, size in zip(place, shape, strict=True))


def _spec(info: Any) -> dict[str, Any]:
    return {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": f"{info.path}/"},
        # A chunk that is not there is an error and no zeros, so zeros are written too.
        "store_data_equal_to_fill_value": True,
        "fill_missing_data_reads": False,
    }
