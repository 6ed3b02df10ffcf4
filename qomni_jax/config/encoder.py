"""Configuration of the blocks that the audio and the vision encoder share."""

import dataclasses

from qomni_jax.config.validation import check_types, require, require_one_of, require_positive


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """A stack of pre-LayerNorm blocks whose tokens see each other in both directions.

    Attributes:
      model_dim: width of the residual stream.
      num_layers: blocks.
      num_heads: attention heads, `model_dim / num_heads` channels each.
      mlp_dim: hidden width of a block's MLP.
      norm_eps: of every LayerNorm.
      gelu: `exact`, or `tanh` for its approximation.
      remat: a block is computed again in the backward pass, from its input and what its attention keeps.
      backend: `auto`, or a form of `ops.attention`.
    """

    model_dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    norm_eps: float = 1e-5
    gelu: str = "exact"
    remat: bool = False
    backend: str = "auto"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "model_dim", "num_layers", "num_heads", "mlp_dim", "norm_eps")
        require(self.model_dim % self.num_heads == 0, self, "model_dim", f"a multiple of num_heads = {self.num_heads}")
        require_one_of(self, "gelu", ("exact", "tanh"))
        require_one_of(self, "backend", ("auto", "reference", "xla", "pallas_tpu"))

    @property
    def head_dim(self) -> int:
        """Channels a head."""
        return self.model_dim // self.num_heads
