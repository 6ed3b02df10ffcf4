"""Dense SwiGLU, and the mixture of experts with a gated shared expert (Qwen3.5 sparse block)."""

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.decoder import FeedForwardConfig
from qomni_jax.layers.linear import projection, with_axes
from qomni_jax.ops.moe import Routing, expert_mlp, route
from qomni_jax.ops.moe.passes import in_passes
from qomni_jax.parallel.experts import dispatch_experts


class SwiGLU(nn.Module):
    """`x [..., D] -> down(silu(gate x) * up x) [..., D]`."""

    hidden_dim: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        tokens = x.reshape(-1, x.shape[-1])
        gate, up = (projection(self.hidden_dim, name, ("embed", "mlp"))(tokens) for name in ("gate_proj", "up_proj"))
        return projection(x.shape[-1], "down_proj", ("mlp", "embed"))(jax.nn.silu(gate) * up).reshape(x.shape)


class MixtureOfExperts(nn.Module):
    """`x [B, T, D]`, `mask [B, T]` (1 counts in the statistics) -> `[B, T, D]` and the routing.

    Sows `router_logits [B, T, E]` into the collection `intermediates`.
    """

    config: FeedForwardConfig

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> tuple[Array, Routing]:
        c = self.config
        dim = x.shape[-1]
        tokens = x.reshape(-1, dim)
        logits = projection(c.num_experts, "gate", ("embed", None))(tokens)
        self.sow("intermediates", "router_logits", logits.reshape(*x.shape[:-1], c.num_experts))
        routing = route(logits, c.top_k, mask.reshape(-1), normalize=c.normalize_top_k)
        init = nn.initializers.variance_scaling(
            1.0, "fan_in", "truncated_normal", in_axis=-2, out_axis=-1, batch_axis=0
        )
        axes = ("experts", "embed", "expert_mlp")
        gate_up = self.param("experts_gate_up_proj", with_axes(init, axes), (c.num_experts, dim, 2 * c.expert_dim))
        down = self.param(
            "experts_down_proj", with_axes(init, (axes[0], axes[2], axes[1])), (c.num_experts, c.expert_dim, dim)
        )

        def all_at_once(*args: Array) -> Array:
            return expert_mlp(*args, backend=c.backend, block_size=c.block_size)

        apply_experts = in_passes(all_at_once, c.pass_tokens)
        args = (tokens, routing.experts, routing.weights, gate_up.astype(x.dtype), down.astype(x.dtype))
        y = dispatch_experts(c.dispatch, apply_experts, *args, headroom=c.ragged_headroom)
        if c.hidden_dim:
            shared = SwiGLU(c.hidden_dim, name="shared_expert")(tokens)
            y = y + shared * jax.nn.sigmoid(projection(1, "shared_expert_gate", ("embed", None))(tokens))
        return y.reshape(x.shape), routing


class FeedForward(nn.Module):
    """The block after a mixer, dense or sparse; returns router statistics `(chosen, probability, tokens)` or zeros."""

    config: FeedForwardConfig

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        if not self.config.num_experts:
            nothing = jnp.zeros((0,))
            return SwiGLU(self.config.hidden_dim, name="mlp")(x), (nothing, nothing, jnp.zeros(()))
        y, routing = MixtureOfExperts(self.config, name="moe")(x, mask)
        return y, (routing.chosen, routing.probability, routing.tokens)
