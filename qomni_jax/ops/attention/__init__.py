"""Causal grouped-query attention over packed rows and over a key-value cache."""

from qomni_jax.ops.attention.api import BACKENDS, grouped_query_attention

__all__ = ["BACKENDS", "grouped_query_attention"]
