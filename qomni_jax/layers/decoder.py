"""The hybrid decoder: a period of Gated DeltaNet and attention layers, scanned.

Layers of one kind that follow each other in the pattern share one traced body, and so do the periods: compile time
does not grow with depth. `DecoderConfig.stacked = False` is the twin without a loop, with the same numbers.
"""

import functools
import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from qomni_jax.config.decoder import DecoderConfig
from qomni_jax.layers.attention import Attention, empty_attention_cache
from qomni_jax.layers.feed_forward import FeedForward
from qomni_jax.layers.gated_delta_net import GatedDeltaNet, GatedDeltaNetCache, empty_gdn_cache
from qomni_jax.layers.linear import norm_weight
from qomni_jax.ops.norms import rms_norm
from qomni_jax.ops.segments import require_segments_in_order
from qomni_jax.parallel.rules import constrain


class Cache(NamedTuple):
    """All that a decoder carries from call to call.

    `layers` holds a `GatedDeltaNetCache` or `AttentionCache` a run of equal layers, with leading axes
    `[periods, run length]`, or one a layer where the decoder is not stacked. Rows need not be in step.
    """

    layers: tuple[Any, ...]
    lengths: Array  # [B] int32, slots in use
    first: Array  # [B] int32, the first slot with a token


class RouterStats(NamedTuple):
    """Sums over tokens, per layer: `[layers, E], [layers, E], [layers]` (see `ops.moe.Routing`)."""

    chosen: Array
    probability: Array
    tokens: Array


class Context(NamedTuple):
    """What every layer of a call shares."""

    positions: Array  # [B, T] or [3, B, T]
    mask: Array | None  # [B, T]
    start: Array | None  # [B] tokens before these in the cache
    first: Array | None  # [B]
    segment_ids: Array | None  # [B, T]


class DecoderLayer(nn.Module):
    """One mixer and its feed-forward block, pre-norm, residual: `x [B, T, D]` -> the same, with cache and statistics.

    Sows the output into the collection `intermediates`, under `hidden`.
    """

    kind: str
    config: DecoderConfig
    every_state: bool = False

    @nn.compact
    def __call__(self, x: Array, cache: Any, context: Context) -> tuple[Array, tuple[Any, Any]]:
        c = self.config
        centred = c.zero_centred_norms
        weight = norm_weight(self, "input_norm", c.model_dim, zero_centred=centred)
        normed = rms_norm(x, weight, c.norm_eps, zero_centred=centred)
        if self.kind == "gdn":
            mixer = GatedDeltaNet(c.gdn, c.model_dim, c.norm_eps, name="linear_attn")
            mixed, new_cache = mixer(normed, cache, context.segment_ids, context.mask, self.every_state)
        else:
            attention = Attention(c.attention, c.model_dim, c.norm_eps, centred, name="self_attn")
            mixed, new_cache = attention(
                normed, context.positions, cache, context.start, context.first, context.segment_ids
            )
        x = constrain(x + checkpoint_name(mixed, "mixer_out"), "batch", "residual", "activation")
        weight = norm_weight(self, "post_norm", c.model_dim, zero_centred=centred)
        normed = checkpoint_name(rms_norm(x, weight, c.norm_eps, zero_centred=centred), "moe_in")
        mask = jnp.ones(x.shape[:2], jnp.float32) if context.mask is None else context.mask
        fed, stats = FeedForward(c.feed_forward, name="feed_forward")(normed, mask)
        x = constrain(x + checkpoint_name(fed, "moe_out"), "batch", "residual", "activation")
        self.sow("intermediates", "hidden", x)
        return x, (None if cache is None else new_cache, stats)


class _Period(nn.Module):
    """One repetition of the pattern; each run of equal layers is scanned."""

    config: DecoderConfig
    every_state: bool = False

    @nn.compact
    def __call__(
        self, x: Array, caches: tuple[Any, ...], feature: Array | None, context: Context
    ) -> tuple[Array, tuple[tuple[Any, ...], Any]]:
        new_caches, stats = [], []
        for index, (kind, length) in enumerate(runs(self.config)):
            layer = _scanned(decoder_layer(self.config), length, "layers", self.config.unroll, (0, nn.broadcast))
            x, (cache, layer_stats) = layer(kind, self.config, self.every_state, name=f"{kind}_{index}")(
                x, caches[index], context
            )
            new_caches.append(cache)
            stats.append(layer_stats)
        x = x if feature is None else x + feature.astype(x.dtype)
        return x, (tuple(new_caches), jax.tree.map(lambda *s: jnp.concatenate(s), *stats))


def decoder_layer(config: DecoderConfig) -> Any:
    """The class of layers, with the rematerialisation that the configuration asks for."""
    if config.remat is None:
        return DecoderLayer
    policy = jax.checkpoint_policies.save_only_these_names(*config.remat)
    return nn.remat(DecoderLayer, policy=policy, prevent_cse=not config.stacked or config.unroll)


def make_context(positions: Array, mask: Array | None, cache: Cache | None, segment_ids: Array | None) -> Context:
    """What the layers of a call share.

    Raises ValueError for no tokens, for segments together with a cache, and for segment ids that decrease (seen only
    outside `jit`).
    """
    if not positions.shape[-1]:
        raise ValueError("decoder: no tokens: accepted is at least one")
    if cache is not None and segment_ids is not None:
        raise ValueError("decoder: segment_ids with a cache: accepted is one of them")
    require_segments_in_order(segment_ids, "decoder")
    first = None if mask is None else jnp.argmax(mask > 0, axis=1).astype(jnp.int32)
    if cache is None:
        return Context(positions, mask, None, first, segment_ids)
    first = cache.first if first is None else jnp.where(cache.lengths == 0, first, cache.first)
    return Context(positions, mask, cache.lengths, first, segment_ids)


def moved_on(cache: Cache, layers: tuple[Any, ...], context: Context, steps: int) -> Cache:
    """The cache after a call of `steps` tokens: each row is longer by what it holds up to its last token."""
    first = cache.first if context.first is None else context.first
    if context.mask is None:
        return Cache(layers, cache.lengths + steps, first)
    ends = jnp.max(jnp.where(context.mask > 0, jnp.arange(1, steps + 1, dtype=jnp.int32), 0), axis=1)
    return Cache(layers, cache.lengths + ends, first)


class Decoder(nn.Module):
    """`x [B, T, D]` -> hidden states after the final norm, the cache, and router statistics.

    Args of the call:
      x: embeddings `[B, T, D]`.
      positions: `[B, T]`, or `[3, B, T]` (time, height, width), for the rotary embedding alone: what a token sees
        follows from the order of its row.
      mask: `[B, T]`, 1 for a token, 0 for padding on the left or on the right of a row: nothing real sees it, states
        pass it unchanged, router statistics leave it out. None: all are tokens.
      cache: from `empty_cache` or an earlier call, or None. Each row goes on where it stands; padding on the right is
        written over by the next call.
      segment_ids: `[B, T]` for rows packed with several sequences (without a cache): none sees another.
      features: `[N, B, T, D]` with N at most `periods`, added to the residual stream after the last layer of each of
        the first N periods.
      every_state: with a cache, for few tokens: states after each token are kept, so that `rollback` can go back to
        any of them.
    """

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Array,
        positions: Array,
        mask: Array | None = None,
        cache: Cache | None = None,
        segment_ids: Array | None = None,
        features: Array | None = None,
        every_state: bool = False,
    ) -> tuple[Array, Cache | None, RouterStats]:
        c = self.config
        context = make_context(positions, mask, cache, segment_ids)
        x = constrain(x, "batch", "residual", "activation")
        if c.stacked:
            x, layers, stats = self._loop(x, cache, features, context, every_state)
        else:
            x, layers, stats = self._one_by_one(x, cache, features, context, every_state)
        weight = norm_weight(self, "norm", c.model_dim, zero_centred=c.zero_centred_norms)
        x = rms_norm(x, weight, c.norm_eps, zero_centred=c.zero_centred_norms)
        new_cache = None if cache is None else moved_on(cache, layers, context, x.shape[1])
        return x, new_cache, RouterStats(*stats)

    def _loop(self, x: Array, cache: Cache | None, features: Array | None, context: Context, every_state: bool) -> Any:
        c = self.config
        if features is not None:
            features = jnp.pad(features, [(0, c.periods - features.shape[0])] + [(0, 0)] * 3)
        periods = _scanned(_Period, c.periods, "periods", c.unroll, (0, 0, nn.broadcast))
        caches = (None,) * len(runs(c)) if cache is None else cache.layers
        x, (layers, stats) = periods(c, every_state, name="periods")(x, caches, features, context)
        return x, layers, jax.tree.map(lambda s: s.reshape(s.shape[0] * s.shape[1], *s.shape[2:]), stats)

    def _one_by_one(
        self, x: Array, cache: Cache | None, features: Array | None, context: Context, every_state: bool
    ) -> Any:
        c = self.config
        layers, stats = [], []
        for index in range(c.num_layers):
            kind = c.pattern[index % len(c.pattern)]
            layer = decoder_layer(c)(kind, c, every_state, name=f"layer_{index}")
            x, (new, layer_stats) = layer(x, None if cache is None else cache.layers[index], context)
            layers.append(new)
            stats.append(layer_stats)
            period = index // len(c.pattern)
            if features is not None and period < features.shape[0] and (index + 1) % len(c.pattern) == 0:
                x = x + features[period].astype(x.dtype)
        return x, tuple(layers), jax.tree.map(lambda *s: jnp.stack(s), *stats)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))  # one program instead of two or more a layer
def empty_cache(config: DecoderConfig, batch: int, capacity: int, dtype: Any = jnp.float32) -> Cache:
    """The cache of a decoder before the first of at most `capacity` tokens a row."""

    def layer_cache(kind: str) -> Any:
        if kind == "gdn":
            return empty_gdn_cache(config.gdn, batch, dtype)
        return empty_attention_cache(config.attention, batch, capacity, dtype)

    if config.stacked:
        layers = tuple(
            jax.tree.map(lambda a, n=length: jnp.zeros((config.periods, n, *a.shape), a.dtype), layer_cache(kind))
            for kind, length in runs(config)
        )
    else:
        layers = tuple(layer_cache(kind) for kind in config.pattern * config.periods)
    return Cache(layers, jnp.zeros(batch, jnp.int32), jnp.zeros(batch, jnp.int32))


def rollback(config: DecoderConfig, before: Cache, after: Cache, kept: Array) -> Cache:
    """The cache once only the first `kept [B]` tokens (0 or more) of a call with `every_state` are taken as said.

    `before` is the cache that the call was given, `after` the one it returned.
    """
    batch = jnp.arange(kept.shape[0])

    def pick(old: Array, states: Array) -> Array:  # [..., B, ...], [..., B, T, ...] -> [..., B, ...]
        axis = 2 if config.stacked else 0
        index = (slice(None),) * axis + (batch, jnp.maximum(kept - 1, 0))
        untouched = (kept == 0).reshape((-1,) + (1,) * (old.ndim - axis - 1))
        return jnp.where(untouched, old, states[index])

    layers = tuple(
        jax.tree.map(pick, old, new) if isinstance(old, GatedDeltaNetCache) else new
        for old, new in zip(before.layers, after.layers, strict=True)
    )
    return Cache(layers, before.lengths + kept, after.first)


def unstack(config: DecoderConfig, params: Any) -> Any:
    """Parameters of a stacked decoder as those of its twin, a `layer_<n>` for every layer."""
    rest = {name: value for name, value in params.items() if name != "periods"}
    return rest | {
        f"layer_{n}": jax.tree.map(lambda a, p=period, i=at: a[p, i], params["periods"][run])
        for n, (run, period, at) in enumerate(places(config))
    }


def stack(config: DecoderConfig, params: Any) -> Any:
    """The inverse of `unstack`."""
    periods: dict[str, Any] = {}
    for index, (kind, length) in enumerate(runs(config)):
        name = f"{kind}_{index}"
        members = [params[f"layer_{n}"] for n, (run, _, _) in enumerate(places(config)) if run == name]
        periods[name] = jax.tree.map(
            lambda *leaves, n=length: jnp.stack(leaves).reshape(config.periods, n, *leaves[0].shape), *members
        )
    return {k: v for k, v in params.items() if not k.startswith("layer_")} | {"periods": periods}


def places(config: DecoderConfig) -> list[tuple[str, int, int]]:
    """Where layer n lies in the stacked tree: the run's name, the period, and the place in the run."""
    found = []
    for period in range(config.periods):
        for index, (kind, length) in enumerate(runs(config)):
            found += [(f"{kind}_{index}", period, at) for at in range(length)]
    return found


def layer_intermediates(config: DecoderConfig, intermediates: Any) -> list[dict[str, Array]]:
    """What the layers sowed (`hidden`, `router_logits`), layer by layer, from a decoder's `intermediates`."""
    collected = []
    for n, (run, period, at) in enumerate(places(config)):
        if config.stacked:
            tree = jax.tree.map(lambda a, p=period, i=at: a[p, i], intermediates["periods"][run])
        else:
            tree = intermediates[f"layer_{n}"]
        flat = {path[-2].key: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        collected.append(flat)
    return collected


def runs(config: DecoderConfig) -> list[tuple[str, int]]:
    """Kinds of layers that follow each other in a period, and how many of each."""
    return [(kind, len(list(group))) for kind, group in itertools.groupby(config.pattern)]


def _scanned(module: Any, length: int, axis: str, unroll: bool, in_axes: tuple[Any, ...]) -> Any:
    return nn.scan(
        module,
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True},
        in_axes=in_axes,
        out_axes=0,
        length=length,
        unroll=length if unroll else 1,
        metadata_params={nn.PARTITION_NAME: axis},
    )
