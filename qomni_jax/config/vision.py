"""Configuration of the vision encoder, and of the images that it sees."""

import dataclasses

from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.config.validation import DTYPES, check_types, require, require_one_of, require_positive


@dataclasses.dataclass(frozen=True)
class ImageConfig:
    """How pixels become patches.

    Attributes:
      patch_size: pixels a side of a patch.
      merge_size: patches a side of the block that becomes one token of the decoder.
      temporal_patch_size: frames a patch; an image is its own next frame.
      min_pixels, max_pixels: area of an image after resizing (the limits of Qwen3-Omni).
      max_aspect_ratio: longer side over shorter one, beyond which an image is refused.
    """

    patch_size: int = 16
    merge_size: int = 2
    temporal_patch_size: int = 2
    min_pixels: int = 3136
    max_pixels: int = 12_845_056
    max_aspect_ratio: float = 200.0

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "patch_size", "merge_size", "temporal_patch_size", "min_pixels")
        require(self.max_aspect_ratio >= 1, self, "max_aspect_ratio", "1 or more")
        least = 4 * max(self.min_pixels, self.size_unit**2)
        require(
            self.max_pixels >= least, self, "max_pixels", f"{least} or more, 4 times min_pixels and 4 merged patches"
        )

    @property
    def size_unit(self) -> int:
        """Pixels of which both sides are a multiple."""
        return self.patch_size * self.merge_size


@dataclasses.dataclass(frozen=True)
class VisionEncoderConfig:
    """The vision transformer of Qwen3.5 and Qwen3-Omni.

    Attributes:
      encoder: the blocks.
      output_dim: width of the decoder.
      in_channels, patch_size, temporal_patch_size: a patch is `[channels, frames, rows, columns]`.
      merge_size: patches a side of the block that becomes one token.
      position_side: rows and columns of the table of learned positions.
      rope_theta: base of the wavelengths of the rotary embedding by row and column.
      deepstack_layers: blocks whose output is merged as well, to be added after the first layers of the decoder
        (Qwen3-Omni; Qwen3.5 has none).
      dtype: of activations, `float32`, `bfloat16`, or `float64` for reference values in 64-bit mode; parameters keep
        their own.
    """

    encoder: EncoderConfig
    output_dim: int
    in_channels: int = 3
    patch_size: int = 16
    temporal_patch_size: int = 2
    merge_size: int = 2
    position_side: int = 48
    rope_theta: float = 10_000.0
    deepstack_layers: tuple[int, ...] = ()
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(
            self, "output_dim", "in_channels", "patch_size", "temporal_patch_size", "merge_size", "position_side"
        )
        require_positive(self, "rope_theta")
        require_one_of(self, "dtype", DTYPES)
        require(
            sorted(set(self.deepstack_layers)) == list(self.deepstack_layers)
            and all(0 <= layer < self.encoder.num_layers for layer in self.deepstack_layers),
            self,
            "deepstack_layers",
            f"increasing numbers of layers in 0..{self.encoder.num_layers - 1}",
        )
        if self.encoder.head_dim % 4:
            raise ValueError(
                f"VisionEncoderConfig.encoder: {self.encoder.head_dim} channels a head: accepted is a multiple of 4"
            )

    @property
    def patch_dim(self) -> int:
        """Numbers of a patch."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def merged_patches(self) -> int:
        """Patches of a token."""
        return self.merge_size**2
