"""Mixture of experts: routing, and matrix products grouped by expert."""

from qomni_jax.ops.moe.api import BACKENDS, expert_mlp
from qomni_jax.ops.moe.router import Routing, load_balancing_loss, pooled_load_balancing_loss, route, router_metrics

__all__ = [
    "BACKENDS",
    "Routing",
    "expert_mlp",
    "load_balancing_loss",
    "pooled_load_balancing_loss",
    "route",
    "router_metrics",
]
