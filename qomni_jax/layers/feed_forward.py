"""Dense SwiGLU, and the mixture of experts with a gated shared expert (Qwen3.5 sparse block)."""

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.decoder import FeedForwardConfig
from qomni_jax.layers.linear import projection
from qomni_jax.ops.moe import Routing, expert_mlp, route


class SwiGLU(nn.Module):
    """`x [..., D] -> down(silu(gate x) * up x) [..., D]`."""

    hidden_dim: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        tokens = x.reshape(-1, x.shape[-1])
        gate, up = projection(self.hidden_dim, "gate_proj")(tokens), projection(self.hidden_dim, "up_proj")(tokens)
        return projection(x.shape[-1], "down_proj")(jax.nn.silu(gate) * up).reshape(x.shape)


class MixtureOfExperts(nn.Module):
    """`x [B, T, D]`, `mask [B, T]` (1 counts in the statistics) -> `[B, T, D]` and the routing."""

    config: FeedForwardConfig

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> tuple[Array, Routing]:
        c = self.config
        dim = x.shape[-1]
        tokens = x.reshape(-1, dim)
        routing = route(projection(c.num_experts, "gate")(tokens), c.top_k, mask.reshape(-1))
        init = nn.initializers.variance_scaling(
            1.0, "fan_in", "truncated_normal", in_axis=-2, out_axis=-1, batch_axis=0
        )
        gate_up = self.param("experts_gate_up_proj", init, (c.num_experts, dim, 2 * c.expert_dim))
        down = self.param("experts_down_proj", init, (c.num_experts, c.expert_dim, dim))
        routed = expert_mlp(
            tokens, routing.experts, routing.weights, gate_up, down, backend=c.backend, block_size=c.block_size
        )
        shared = SwiGLU(c.hidden_dim, name="shared_expert")(tokens)
        shared = shared * jax.nn.sigmoid(projection(1, "shared_expert_gate")(tokens))
        return (routed + shared).reshape(x.shape), routing


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
