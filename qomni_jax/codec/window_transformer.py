"""Causal transformer whose frames see a window of the past, with a cache of that size: streams of any length."""

from typing import Any

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.codec.causal_conv import with_past
from qomni_jax.config.waveform_codec import WindowTransformerConfig
from qomni_jax.layers.feed_forward import SwiGLU
from qomni_jax.layers.linear import LayerNorm, norm_weight, projection, with_axes
from qomni_jax.ops.attention import grouped_query_attention
from qomni_jax.ops.norms import per_channel, rms_norm
from qomni_jax.ops.rotary import apply_rotary


class WindowAttention(nn.Module):
    """Rotary self-attention over the window, `x [B, T, D]`, `seen [B]` frames before these -> `[B, T, D]`.

    Keys and values of the last `window - 1` frames lie in the collection `stream`. Keys are turned as they are read, by
    their place in the window: angles stay small however long a stream is.
    """

    config: WindowTransformerConfig

    @nn.compact
    def __call__(self, x: Array, seen: Array) -> Array:
        c = self.config
        batch, steps = x.shape[:2]
        q = projection(c.num_heads * c.head_dim, "q_proj", ("embed", "heads"))(x)
        k, v = (
            projection(c.num_kv_heads * c.head_dim, name, ("embed", "kv_heads"))(x) for name in ("k_proj", "v_proj")
        )
        q, k, v = (a.reshape(batch, steps, -1, c.head_dim) for a in (q, k, v))
        past = c.window - 1
        k, v = with_past(self, "keys", k, past), with_past(self, "values", v, past)
        slots = jnp.arange(past + steps)[None]
        q = apply_rotary(q, slots[:, past:], rotary_dim=c.head_dim, theta=c.rope_theta)
        k = apply_rotary(k, slots, rotary_dim=c.head_dim, theta=c.rope_theta)
        o = grouped_query_attention(
            q,
            k,
            v,
            start=jnp.full(batch, past),
            first=jnp.maximum(past - seen, 0),
            window=c.window,
            backend=c.backend,
        )
        return projection(c.model_dim, "o_proj", ("heads", "embed"))(o.reshape(batch, steps, -1))


class WindowBlock(nn.Module):
    """One layer, `x [B, T, D]` -> the same: attention, then an MLP, each behind a norm and a scale of its channels."""

    config: WindowTransformerConfig

    @nn.compact
    def __call__(self, x: Array, seen: Array) -> Array:
        c = self.config
        mixed = WindowAttention(c, name="attn")(_norm(self, c, "input_norm", x), seen)
        x = x + mixed * self._scale("attn_scale", mixed)
        hidden = _norm(self, c, "post_norm", x)
        if c.mlp == "swiglu":
            hidden = SwiGLU(c.mlp_dim, name="mlp")(hidden)
        else:
            hidden = GELUMLP(c.mlp_dim, name="mlp")(hidden)
        return x + hidden * self._scale("mlp_scale", hidden)

    def _scale(self, name: str, x: Array) -> Array:
        init = nn.initializers.constant(0.01)
        scale = self.param(name, with_axes(init, ("norm",)), (x.shape[-1],))
        return per_channel(scale.astype(x.dtype), x.shape)


class GELUMLP(nn.Module):
    """`x [..., D] -> fc2(gelu(fc1 x)) [..., D]`, without biases."""

    hidden_dim: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        hidden = jax.nn.gelu(projection(self.hidden_dim, "fc1", ("embed", "mlp"))(x), approximate=False)
        return projection(x.shape[-1], "fc2", ("mlp", "embed"))(hidden)


class WindowTransformer(nn.Module):
    """All layers, `x [B, T, width]`, `seen [B]` frames before these -> `[B, T, width]`."""

    config: WindowTransformerConfig

    @nn.compact
    def __call__(self, x: Array, seen: Array) -> Array:
        c = self.config
        if c.outer_dim is not None:
            x = projection(c.model_dim, "input_proj", (None, "embed"), use_bias=True)(x)

        def step(block: WindowBlock, x: Array, _: None) -> tuple[Array, None]:
            return block(x, seen), None

        scanned: Any = nn.scan(
            step,
            variable_axes={"params": 0, "stream": 0},
            split_rngs={"params": True},
            length=c.num_layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        x, _ = scanned(WindowBlock(c, name="blocks"), x, None)
        if c.final_norm:
            x = _norm(self, c, "norm", x)
        if c.outer_dim is not None:
            x = projection(c.outer_dim, "output_proj", ("embed", None), use_bias=True)(x)
        return x


def _norm(module: nn.Module, config: WindowTransformerConfig, name: str, x: Array) -> Array:
    if config.norm == "layer":
        return LayerNorm(config.norm_eps, name=name)(x)
    weight = norm_weight(module, name, x.shape[-1], zero_centred=False)
    return rms_norm(x, weight, config.norm_eps, zero_centred=False)
