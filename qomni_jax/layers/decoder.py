"""The hybrid decoder: a period of Gated DeltaNet and attention layers, scanned.

Layers of one kind that follow each other in the pattern share one traced body, and so do the periods: compile time
does not grow with depth.
"""

import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.decoder import DecoderConfig
from qomni_jax.layers.attention import Attention, empty_attention_cache
from qomni_jax.layers.feed_forward import FeedForward
from qomni_jax.layers.gated_delta_net import GatedDeltaNet, empty_gdn_cache
from qomni_jax.ops.norms import rms_norm

Cache = tuple[Any, ...]  # per run of equal layers: a layer's cache with leading axes [periods, run length]


_Context = tuple[Array, Array, Any, Array | None]  # positions, mask, start, segment_ids


class RouterStats(NamedTuple):
    """Sums over tokens, per layer: `[layers, E], [layers, E], [layers]` (see `ops.moe.Routing`)."""

    chosen: Array
    probability: Array
    tokens: Array


class _Layer(nn.Module):
    """One mixer and its feed-forward block, pre-norm, residual."""

    kind: str
    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Array, cache: Any, context: _Context) -> tuple[Array, tuple[Any, Any]]:
        c = self.config
        positions, mask, start, segment_ids = context
        normed = rms_norm(x, self.param("input_norm", nn.initializers.zeros, (c.model_dim,)), c.norm_eps)
        if self.kind == "gdn":
            mixed, new_cache = GatedDeltaNet(c.gdn, c.model_dim, c.norm_eps, name="linear_attn")(
                normed, cache, segment_ids
            )
        else:
            attention = Attention(c.attention, c.model_dim, c.norm_eps, name="self_attn")
            mixed, new_cache = attention(normed, positions, cache, start, segment_ids)
        x = x + mixed
        normed = rms_norm(x, self.param("post_norm", nn.initializers.zeros, (c.model_dim,)), c.norm_eps)
        fed, stats = FeedForward(c.feed_forward, name="feed_forward")(normed, mask)
        return x + fed, (None if cache is None else new_cache, stats)


class _Period(nn.Module):
    """One repetition of the pattern; each run of equal layers is scanned."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Array, caches: Cache, context: _Context) -> tuple[Array, tuple[Cache, Any]]:
        new_caches, stats = [], []
        for index, (kind, length) in enumerate(_runs(self.config)):
            run = _scanned(_Layer, length, self.config.unroll)(kind, self.config, name=f"{kind}_{index}")
            x, (cache, layer_stats) = run(x, caches[index], context)
            new_caches.append(cache)
            stats.append(layer_stats)
        return x, (tuple(new_caches), jax.tree.map(lambda *s: jnp.concatenate(s), *stats))


class Decoder(nn.Module):
    """`x [B, T, D]` -> hidden states after the final norm, the cache, and router statistics.

    Args of the call:
      x: embeddings `[B, T, D]`.
      positions: `[B, T]` for the rotary embedding, and the order that attention sees.
      mask: `[B, T]`, 1 where a token counts in router statistics (padding must stand at the end of a row).
      cache: from `empty_cache` or an earlier call, or None; with it, `start` tokens came before these in every row.
      segment_ids: `[B, T]` for rows packed with several sequences (without a cache): none sees another.
    """

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Array,
        positions: Array,
        mask: Array,
        cache: Cache | None = None,
        start: Array | int = 0,
        segment_ids: Array | None = None,
    ) -> tuple[Array, Cache | None, RouterStats]:
        c = self.config
        periods = _scanned(_Period, c.periods, c.unroll)(c, name="periods")
        caches = cache if cache is not None else (None,) * len(_runs(c))
        x, (new_cache, stats) = periods(x, caches, (positions, mask, start, segment_ids))
        x = rms_norm(x, self.param("norm", nn.initializers.zeros, (c.model_dim,)), c.norm_eps)
        stats = jax.tree.map(lambda s: s.reshape(s.shape[0] * s.shape[1], *s.shape[2:]), stats)
        return x, (None if cache is None else new_cache), RouterStats(*stats)


def empty_cache(config: DecoderConfig, batch: int, capacity: int, dtype: Any = jnp.float32) -> Cache:
    """The cache of a decoder before the first of at most `capacity` tokens."""

    def run_cache(kind: str, length: int) -> Any:
        if kind == "gdn":
            cache: Any = empty_gdn_cache(config.gdn, batch, dtype)
        else:
            cache = empty_attention_cache(config.attention, batch, capacity, dtype)
        return jax.tree.map(lambda a: jnp.zeros((config.periods, length, *a.shape), a.dtype), cache)

    return tuple(run_cache(kind, length) for kind, length in _runs(config))


def _runs(config: DecoderConfig) -> list[tuple[str, int]]:
    return [(kind, len(list(group))) for kind, group in itertools.groupby(config.pattern)]


def _scanned(module: type[nn.Module], length: int, unroll: bool) -> Any:
    return nn.scan(
        module,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast),
        out_axes=0,
        length=length,
        unroll=length if unroll else 1,
    )
