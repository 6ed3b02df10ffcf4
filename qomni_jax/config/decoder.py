"""Configuration of the decoder that Thinker and Talker share."""

import dataclasses

from qomni_jax.config.validation import check_types, require, require_one_of, require_positive


@dataclasses.dataclass(frozen=True)
class GatedDeltaNetConfig:
    """One Gated DeltaNet mixer: head counts and widths, convolution width, tokens a chunk (a power of two)."""

    num_key_heads: int = 2
    num_value_heads: int = 4
    head_key_dim: int = 32
    head_value_dim: int = 32
    conv_width: int = 4
    chunk_size: int = 16
    backend: str = "auto"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "num_key_heads", "num_value_heads", "head_key_dim", "head_value_dim", "conv_width")
        require(
            self.num_value_heads % self.num_key_heads == 0,
            self,
            "num_value_heads",
            f"a multiple of num_key_heads = {self.num_key_heads}",
        )
        require(
            self.chunk_size > 0 and self.chunk_size & (self.chunk_size - 1) == 0, self, "chunk_size", "a power of two"
        )
        require_one_of(self, "backend", ("auto", "reference", "xla"))


@dataclasses.dataclass(frozen=True)
class AttentionConfig:
    """One grouped-query attention mixer with query and key norms; `gated` multiplies its output by a sigmoid gate."""

    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 40
    rotary_fraction: float = 0.25
    rope_theta: float = 10_000.0
    gated: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "num_heads", "num_kv_heads", "head_dim", "rope_theta")
        require(
            self.num_heads % self.num_kv_heads == 0,
            self,
            "num_heads",
            f"a multiple of num_kv_heads = {self.num_kv_heads}",
        )
        require(0.0 <= self.rotary_fraction <= 1.0, self, "rotary_fraction", "a number in 0..1")

    @property
    def rotary_dim(self) -> int:
        """Rotated channels a head, an even number."""
        return int(self.head_dim * self.rotary_fraction) // 2 * 2


@dataclasses.dataclass(frozen=True)
class FeedForwardConfig:
    """A dense SwiGLU (`num_experts = 0`) or a mixture of experts with a gated shared expert.

    `hidden_dim` is the width of the dense or the shared SwiGLU, `expert_dim` that of one expert.
    """

    hidden_dim: int = 160
    num_experts: int = 8
    top_k: int = 2
    expert_dim: int = 128
    backend: str = "xla"
    block_size: int = 64

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "hidden_dim", "block_size")
        require(self.num_experts >= 0, self, "num_experts", "0 (dense) or more")
        require_one_of(self, "backend", ("reference", "xla"))
        if self.num_experts:
            require_positive(self, "expert_dim")
            require(
                1 <= self.top_k <= self.num_experts,
                self,
                "top_k",
                f"a whole number in 1..{self.num_experts} (num_experts)",
            )


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """A pre-norm decoder: `periods` repetitions of `pattern`, each mixer followed by a feed-forward block.

    `unroll` lays the layers out one after another instead of in a loop: the same numbers, faster steps for a shallow
    model on a CPU (no stacked residuals), longer compilation for a deep one.
    """

    model_dim: int = 160
    periods: int = 1
    pattern: tuple[str, ...] = ("gdn", "gdn", "gdn", "attention")
    gdn: GatedDeltaNetConfig = GatedDeltaNetConfig()
    attention: AttentionConfig = AttentionConfig()
    feed_forward: FeedForwardConfig = FeedForwardConfig()
    norm_eps: float = 1e-6
    unroll: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "model_dim", "periods", "norm_eps")
        require(
            len(self.pattern) > 0 and set(self.pattern) <= {"gdn", "attention"},
            self,
            "pattern",
            "a non-empty sequence of gdn and attention",
        )
