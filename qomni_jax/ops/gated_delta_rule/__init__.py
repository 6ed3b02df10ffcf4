"""The gated delta rule: one recurrence, several forms of it."""

from qomni_jax.ops.gated_delta_rule.api import BACKENDS, gated_delta_rule, resolve_backend

__all__ = ["BACKENDS", "gated_delta_rule", "resolve_backend"]
