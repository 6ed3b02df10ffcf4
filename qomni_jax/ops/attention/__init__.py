"""Causal grouped-query attention over packed rows and over a key-value cache; attention in both directions."""

from qomni_jax.ops.attention.api import (
    BACKENDS,
    attention_over_cache,
    bidirectional_attention,
    grouped_query_attention,
)

__all__ = ["BACKENDS", "attention_over_cache", "bidirectional_attention", "grouped_query_attention"]
