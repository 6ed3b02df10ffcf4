"""Mixture of experts: routing, and matrix products grouped by expert."""

from qomni_jax.ops.moe.experts import BACKENDS, expert_mlp
from qomni_jax.ops.moe.router import Routing, route

__all__ = ["BACKENDS", "Routing", "expert_mlp", "route"]
