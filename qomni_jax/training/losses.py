"""Losses over a large vocabulary, without ever holding the logits of a whole row."""

import functools
import math
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from qomni_jax.parallel.rules import axes_of, partition_spec

IGNORED = -1  # a target that does not count


def next_token_targets(tokens: Array, counts: Array | None = None, segment_ids: Array | None = None) -> Array:
    """`tokens [B, T]` -> the token that each position has to predict, `[B, T]`, `IGNORED` where there is none.

    A position has no target at the end of its row or segment, nor where `counts [B, T]` is 0 at the token after it.
    """
    targets = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)), constant_values=IGNORED)
    if counts is not None:
        targets = jnp.where(jnp.pad(counts[:, 1:], ((0, 0), (0, 1))) > 0, targets, IGNORED)
    if segment_ids is not None:
        same = jnp.pad(segment_ids[:, 1:] == segment_ids[:, :-1], ((0, 0), (0, 1)))
        targets = jnp.where(same, targets, IGNORED)
    return targets


def shifted_targets(targets: Array, segment_ids: Array | None = None) -> Array:
    """The targets one position further on: what a head has to predict that is given the next token as well."""
    further = jnp.pad(targets[:, 1:], ((0, 0), (0, 1)), constant_values=IGNORED)
    if segment_ids is None:
        return further
    same = jnp.pad(segment_ids[:, 1:] == segment_ids[:, :-1], ((0, 0), (0, 1)))
    return jnp.where(same, further, IGNORED)


def chunked_cross_entropy(
    hidden: Array, head: Array, targets: Array, *, chunk: int = 1024, vocab_axis: int = 1
) -> tuple[Array, Array]:
    """Sum of cross-entropies and the number of targets: `hidden [B, T, D]`, `head [D, V]`, `targets [B, T]`.

    Logits are made for `chunk` tokens a device at a time, in float32, and turned into gradients of `hidden` and `head`
    at once, so that neither pass holds `[B, T, V]` and the head's product is not computed twice. `vocab_axis = 0`
    takes the head as `[V, D]` (tied embeddings). Over a mesh (`jax.set_mesh`) each device works on its own rows and on
    its own part of the vocabulary; the head is gathered once and its gradient reduced once, not in every chunk.
    """
    count = jnp.sum(targets >= 0).astype(jnp.float32)
    mesh = jax.sharding.get_abstract_mesh()
    local = functools.partial(_sum_of_losses, min(chunk, targets.size), vocab_axis, None)
    if mesh.empty or mesh.manual_axes or mesh.size == 1:
        return local(hidden, head, targets), count
    rows = partition_spec(mesh, ("batch", "sequence", None), hidden.shape)
    names = ("embed", "vocab") if vocab_axis == 1 else ("vocab", "embed")
    head_spec = partition_spec(mesh, names, head.shape)
    vocab = axes_of(head_spec, vocab_axis)
    embed = axes_of(head_spec, 1 - vocab_axis)
    # Devices that see the same rows and the same vocabulary do the same work: each answers for its share.
    same = math.prod(mesh.shape[axis] for axis in mesh.axis_names if axis not in _flat(rows))
    copies = same // math.prod(mesh.shape[axis] for axis in vocab)

    def on_device(hidden: Array, head: Array, targets: Array) -> Array:
        if embed:
            head = jax.lax.all_gather(head, embed, axis=1 - vocab_axis, tiled=True)
        size = min(chunk, targets.size)
        loss = _sum_of_losses(size, vocab_axis, vocab or None, hidden, head, targets)
        return (loss / copies)[None]

    parts = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(rows, head_spec, PartitionSpec(*rows[:2])),
        out_specs=PartitionSpec(mesh.axis_names),
        check_vma=False,
    )(hidden, head, targets)
    return jnp.sum(parts), count


def _flat(spec: PartitionSpec) -> set[str]:
    return {axis for index in range(len(spec)) for axis in axes_of(spec, index)}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _sum_of_losses(chunk: int, vocab_axis: int, vocab: Any, hidden: Array, head: Array, targets: Array) -> Array:
    """This device's share of the loss of its rows: the shares over the mesh axes `vocab` sum to the loss."""

    def one(total: Array, rows: tuple[Array, Array]) -> tuple[Array, None]:
        return total + _chunk_loss(vocab_axis, vocab, rows[0], head, rows[1])[0], None

    return _share(jax.lax.scan(one, jnp.zeros((), jnp.float32), _chunks(chunk, hidden, targets))[0], vocab)


def _forward(
    chunk: int, vocab_axis: int, vocab: Any, hidden: Array, head: Array, targets: Array
) -> tuple[Array, tuple[Array, Array]]:
    def one(carry: tuple[Array, Array], rows: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        total, d_head = carry
        x, target = rows
        loss, d_logits = _chunk_loss(vocab_axis, vocab, x, head, target)
        d_logits = d_logits.astype(x.dtype)
        d_x = jnp.einsum("nv,dv->nd" if vocab_axis else "nv,vd->nd", d_logits, head)
        pair = (x, d_logits) if vocab_axis else (d_logits, x)
        d_head = d_head + jnp.einsum("na,nb->ab", *pair, preferred_element_type=jnp.float32)
        return (total + loss, d_head), d_x

    start = (jnp.zeros((), jnp.float32), jnp.zeros(head.shape, jnp.float32))
    (total, d_head), d_hidden = jax.lax.scan(one, start, _chunks(chunk, hidden, targets))
    d_hidden = d_hidden.reshape(-1, hidden.shape[-1])[: targets.size].reshape(hidden.shape)
    # Rounded here: the float32 sums would otherwise be kept until the gradient of the head is reduced, much later.
    return _share(total, vocab), jax.lax.optimization_barrier((d_hidden, d_head.astype(head.dtype)))


def _backward(
    chunk: int, vocab_axis: int, vocab: Any, saved: tuple[Array, Array], d_loss: Array
) -> tuple[Array, Array, None]:
    del chunk, vocab_axis, vocab
    d_hidden, d_head = saved
    return d_hidden * d_loss.astype(d_hidden.dtype), d_head * d_loss.astype(d_head.dtype), None


_sum_of_losses.defvjp(_forward, _backward)


def _share(total: Array, vocab: Any) -> Array:
    return total / jax.lax.psum(1, vocab) if vocab else total


def _chunks(chunk: int, hidden: Array, targets: Array) -> tuple[Array, Array]:
    """Rows one after another, cut into `[chunks, chunk, D]` and `[chunks, chunk]`; the last one is filled up."""
    padding = -targets.size % chunk
    rows = jnp.pad(hidden.reshape(-1, hidden.shape[-1]), ((0, padding), (0, 0)))
    flat = jnp.pad(targets.reshape(-1), (0, padding), constant_values=IGNORED)
    return rows.reshape(-1, chunk, hidden.shape[-1]), flat.reshape(-1, chunk)


def _chunk_loss(vocab_axis: int, vocab: Any, x: Array, head: Array, target: Array) -> tuple[Array, Array]:
    """Sum of the losses of `x [N, D]`, and its gradient with respect to this device's logits `[N, V]`."""
    logits = jnp.einsum("nd,dv->nv" if vocab_axis else "nd,vd->nv", x, head, preferred_element_type=jnp.float32)
    counts = (target >= 0).astype(jnp.float32)
    first = jax.lax.axis_index(vocab) * logits.shape[-1] if vocab else 0
    hit = jnp.arange(logits.shape[-1]) + first == target[:, None]

    def over_vocabulary(x: Array, reduce: Any) -> Array:
        return reduce(x, vocab) if vocab else x

    top = over_vocabulary(jnp.max(logits, axis=-1), jax.lax.pmax)
    weights = jnp.exp(logits - top[:, None])
    total = over_vocabulary(jnp.sum(weights, axis=-1), jax.lax.psum)
    chosen = over_vocabulary(jnp.sum(jnp.where(hit, logits, 0.0), axis=-1), jax.lax.psum)
    loss = jnp.sum((top + jnp.log(total) - chosen) * counts)
    return loss, (weights / total[:, None] - hit) * counts[:, None]
