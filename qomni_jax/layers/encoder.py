"""The blocks that the audio and the vision encoder share: pre-LayerNorm, attention in both directions, GELU MLP."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.layers.linear import LayerNorm, projection
from qomni_jax.ops.attention import bidirectional_attention
from qomni_jax.ops.gelu import exact_gelu
from qomni_jax.ops.rotary import rotate
from qomni_jax.parallel.kernels import sharded
from qomni_jax.parallel.rules import constrain


class RowContext(NamedTuple):
    """What every block of a call shares."""

    lengths: Array  # [R] tokens a row, the rest is padding
    window: Array | None = None  # a traced window, in tokens
    angles: Array | None = None  # [R, L, head_dim / 2] rotary angles of queries and keys


class EncoderAttention(nn.Module):
    """Self-attention within a row or its windows, every projection with bias: `x [R, L, D]` -> the same.

    `window` is the static one of `ops.attention.bidirectional_attention`.
    """

    config: EncoderConfig
    window: int | None = None

    @nn.compact
    def __call__(self, x: Array, context: RowContext) -> Array:
        c = self.config
        q, k, v = (
            projection(c.model_dim, name, ("embed", "heads"), use_bias=True)(x).reshape(
                *x.shape[:2], c.num_heads, c.head_dim
            )
            for name in ("q_proj", "k_proj", "v_proj")
        )
        if context.angles is not None:
            q, k = rotate(q, context.angles), rotate(k, context.angles)

        def attend(q: Array, k: Array, v: Array, lengths: Array, window: Array | None) -> Array:
            return bidirectional_attention(
                q, k, v, lengths=lengths, window=self.window if window is None else window, backend=c.backend
            )

        heads = ("batch", None, "heads", None)
        o = sharded(attend, (heads, heads, heads, ("batch",), ()), heads)(q, k, v, context.lengths, context.window)
        return projection(c.model_dim, "out_proj", ("heads", "embed"), use_bias=True)(o.reshape(x.shape))


class EncoderMLP(nn.Module):
    """`x [..., D] -> fc2(gelu(fc1 x)) [..., out]`, both with bias; also the encoders' mergers and projectors."""

    hidden_dim: int
    out_dim: int
    gelu: str = "exact"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        hidden = projection(self.hidden_dim, "fc1", ("embed", "mlp"), use_bias=True)(x)
        hidden = jax.nn.gelu(hidden, approximate=True) if self.gelu == "tanh" else exact_gelu(hidden)
        return projection(self.out_dim, "fc2", ("mlp", "embed"), use_bias=True)(hidden)


class EncoderBlock(nn.Module):
    """One block: `x [R, L, D]` -> the same. Sows its output into the collection `intermediates`, under `hidden`."""

    config: EncoderConfig
    window: int | None = None

    @nn.compact
    def __call__(self, x: Array, context: RowContext) -> Array:
        c = self.config
        mixed = EncoderAttention(c, self.window, name="attn")(LayerNorm(c.norm_eps, name="norm1")(x), context)
        x = constrain(x + mixed, "batch", "residual", "activation")
        fed = EncoderMLP(c.mlp_dim, c.model_dim, c.gelu, name="mlp")(LayerNorm(c.norm_eps, name="norm2")(x))
        x = constrain(x + fed, "batch", "residual", "activation")
        self.sow("intermediates", "hidden", x)
        return x


class Encoder(nn.Module):
    """All blocks, scanned: `x [R, L, D]` -> the last one's output, and those of the layers `taps` `[taps, R, L, D]`.

    No final norm. Parameters of the layers share one array, under `blocks`.
    """

    config: EncoderConfig
    window: int | None = None
    taps: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Array, context: RowContext) -> tuple[Array, Array]:
        c = self.config
        block_class = EncoderBlock
        if c.remat:
            policy = jax.checkpoint_policies.save_only_these_names("attention_out")
            block_class = nn.remat(EncoderBlock, policy=policy, prevent_cse=False)
        # A layer writes its output to its own place of `tapped`, or past the end: nowhere.
        slots = [self.taps.index(layer) if layer in self.taps else len(self.taps) for layer in range(c.num_layers)]

        def step(block: EncoderBlock, carry: tuple[Array, Array], slot: Array) -> tuple[tuple[Array, Array], None]:
            x, tapped = carry
            x = block(x, context)
            return (x, tapped.at[slot].set(x, mode="drop") if self.taps else tapped), None

        scanned: Any = nn.scan(
            step,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True},
            length=c.num_layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        x = constrain(x, "batch", "residual", "activation")
        tapped = jnp.zeros((len(self.taps), *x.shape), x.dtype)
        (x, tapped), _ = scanned(block_class(c, self.window, name="blocks"), (x, tapped), jnp.asarray(slots))
        return x, tapped
