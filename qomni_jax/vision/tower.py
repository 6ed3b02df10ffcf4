"""The vision encoder: patches of frames to tokens of the decoder (SigLIP-2 style tower of Qwen3.5 and Qwen3-Omni).

A frame (a temporal patch: two frames of a video, or an image twice) is a row. Nothing reaches from one row to another:
a frame gives the same tokens alone, in a video and in a batch, and a video may be encoded as it arrives.
"""

from typing import NamedTuple

import flax.linen as nn
from jax import Array
import jax.numpy as jnp

from qomni_jax.config.vision import VisionEncoderConfig
from qomni_jax.layers.encoder import Encoder, EncoderMLP, RowContext
from qomni_jax.layers.linear import LayerNorm, projection, with_axes
from qomni_jax.ops.rotary import axial_rotary_angles
from qomni_jax.vision.positions import patch_coordinates, resampled_positions


class VisionOutput(NamedTuple):
    """Tokens of each row in the order of its merge blocks, 0 past the row's own; how many; DeepStack features."""

    tokens: Array  # [R, L / merge_size ** 2, output_dim]
    lengths: Array  # [R] int32
    deepstack: Array  # [len(deepstack_layers), R, L / merge_size ** 2, output_dim]


class VisionEncoder(nn.Module):
    """`patches [R, L, patch]`, `grids [R, 2]` (h, w in patches, h * w of the L are real) -> `VisionOutput`.

    `vision.patches.frame_rows` makes both. Sows `embedded`, what the first block sees, into the collection
    `intermediates`.

    Raises ValueError for patches of another shape.
    """

    config: VisionEncoderConfig

    @nn.compact
    def __call__(self, patches: Array, grids: Array) -> VisionOutput:
        c = self.config
        length = patches.shape[1]
        if patches.ndim != 3 or patches.shape[2] != c.patch_dim or length % c.merged_patches:
            raise ValueError(
                f"patches {patches.shape}: accepted is [rows, a multiple of {c.merged_patches}, {c.patch_dim}]"
            )
        lengths = (grids[:, 0] * grids[:, 1]).astype(jnp.int32)
        rows, columns = patch_coordinates(grids, length, c.merge_size)
        x = projection(c.encoder.model_dim, "patch_embed", (None, "embed"), use_bias=True)(patches.astype(c.dtype))
        init = with_axes(nn.initializers.normal(0.02), (None, "embed"))
        table = self.param("pos_embed", init, (c.position_side**2, c.encoder.model_dim))
        x = x + resampled_positions(table, grids, rows, columns).astype(x.dtype)
        self.sow("intermediates", "embedded", x)
        angles = axial_rotary_angles(rows, columns, c.encoder.head_dim // 2, c.rope_theta)
        encoder = Encoder(c.encoder, taps=c.deepstack_layers, name="encoder")
        x, tapped = encoder(x, RowContext(lengths, angles=angles))
        lengths = lengths // c.merged_patches
        real = (jnp.arange(length // c.merged_patches) < lengths[:, None])[..., None]
        tokens = jnp.where(real, PatchMerger(c, name="merger")(x), 0)
        deepstack = [
            jnp.where(real, PatchMerger(c, norm_merged=True, name=f"deepstack_{i}")(tap), 0)
            for i, tap in enumerate(tapped)
        ]
        nothing = jnp.zeros((0, *tokens.shape), tokens.dtype)
        return VisionOutput(tokens, lengths, jnp.stack(deepstack) if deepstack else nothing)


class PatchMerger(nn.Module):
    """The patches of a block to one token: `x [R, L, D] -> [R, L / merge_size ** 2, output_dim]`.

    LayerNorm over each patch, or over the whole block with `norm_merged` (DeepStack), then an MLP with exact GELU.
    """

    config: VisionEncoderConfig
    norm_merged: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = self.config
        merged_dim = c.merged_patches * x.shape[2]
        norm = LayerNorm(c.encoder.norm_eps, name="norm")
        x = x if self.norm_merged else norm(x)
        x = x.reshape(x.shape[0], -1, merged_dim)
        x = norm(x) if self.norm_merged else x
        return EncoderMLP(merged_dim, c.output_dim, name="mlp")(x)
