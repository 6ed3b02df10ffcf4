"""Configuration of the decoder that Thinker and Talker share."""

import dataclasses

from qomni_jax.config.validation import DTYPES, check_types, require, require_one_of, require_positive


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
        require_one_of(self, "backend", ("auto", "reference", "xla", "pallas_tpu", "step"))

    @property
    def conv_channels(self) -> int:
        """Channels of the convolution: queries, keys and values side by side."""
        return 2 * self.num_key_heads * self.head_key_dim + self.num_value_heads * self.head_value_dim


@dataclasses.dataclass(frozen=True)
class AttentionConfig:
    """One grouped-query attention mixer.

    Attributes:
      num_heads, num_kv_heads, head_dim: query heads, key and value heads, channels a head.
      rotary_fraction: share of a head's channels that the rotary embedding turns.
      rope_theta: base of its wavelengths.
      mrope_section: how many of the `rotary_dim / 2` frequencies follow time, height and width (interleaved); None
        where one position says all.
      qk_norm: RMSNorm of queries and keys, before the rotary embedding.
      gated: the output is multiplied by a sigmoid gate before the last projection.
      backend: `auto`, or a form of `ops.attention`.
    """

    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 40
    rotary_fraction: float = 0.25
    rope_theta: float = 10_000.0
    mrope_section: tuple[int, ...] | None = None
    qk_norm: bool = True
    gated: bool = True
    backend: str = "auto"

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
        require_one_of(self, "backend", ("auto", "reference", "xla", "pallas_tpu"))
        if self.mrope_section is not None:
            require(
                len(self.mrope_section) == 3
                and min(self.mrope_section) >= 0
                and sum(self.mrope_section) == self.rotary_dim // 2,
                self,
                "mrope_section",
                f"three counts (time, height, width) whose sum is rotary_dim / 2 = {self.rotary_dim // 2}",
            )

    @property
    def rotary_dim(self) -> int:
        """Rotated channels a head, an even number."""
        return int(self.head_dim * self.rotary_fraction) // 2 * 2


@dataclasses.dataclass(frozen=True)
class FeedForwardConfig:
    """A dense SwiGLU (`num_experts = 0`) or a mixture of experts with a gated shared expert.

    Attributes:
      hidden_dim: width of the dense or the shared SwiGLU; 0 with experts: no shared expert.
      num_experts, top_k, expert_dim: experts, how many of them a token visits, width of one.
      normalize_top_k: the chosen experts' probabilities are scaled to sum to 1.
      backend: `auto`, or a form of the grouped product in `ops.moe`; `block_size`: tokens of one of its blocks.
      dispatch: how tokens reach experts that are spread over devices: `local`, `ring` or `ragged` (not on a CPU); see
        `parallel.experts`.
      ragged_headroom: of `ragged`: a device's buffer for tokens that arrive, over what arrives with a balanced load;
        more comes in further rounds.
      pass_tokens: tokens that a device takes through the experts at a time, where it has more; 0: all at once. Bounds
        the memory of a token's copies, one an expert that it visits.
    """

    hidden_dim: int = 160
    num_experts: int = 8
    top_k: int = 2
    expert_dim: int = 128
    normalize_top_k: bool = True
    backend: str = "auto"
    block_size: int = 64
    dispatch: str = "local"
    ragged_headroom: float = 2.0
    pass_tokens: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "block_size", "ragged_headroom")
        require(self.pass_tokens >= 0, self, "pass_tokens", "0 (all at once) or more")
        require(self.num_experts >= 0, self, "num_experts", "0 (dense) or more")
        least = 0 if self.num_experts else 1
        require(self.hidden_dim >= least, self, "hidden_dim", f"{least} or more")
        require_one_of(self, "backend", ("auto", "reference", "xla", "blocked", "pallas_tpu"))
        require_one_of(self, "dispatch", ("local", "ring", "ragged"))
        if self.num_experts:
            require_positive(self, "expert_dim")
            require(
                1 <= self.top_k <= self.num_experts,
                self,
                "top_k",
                f"a whole number in 1..{self.num_experts} (num_experts)",
            )


# Tensors of a layer that rematerialisation may keep, by the name under which they are tagged.
REMAT_NAMES = ("gdn_in", "gdn_out", "attention_in", "attention_out", "mixer_out", "moe_in", "moe_out")


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """A pre-norm decoder: `periods` repetitions of `pattern`, each mixer followed by a feed-forward block.

    Attributes:
      model_dim: width of the residual stream.
      periods, pattern: `len(pattern) * periods` layers, each `gdn` or `attention`.
      gdn, attention, feed_forward: the parts.
      norm_eps: of every RMSNorm.
      zero_centred_norms: weights start at 0 and are applied as `1 + w` (Qwen3-Next, Qwen3.5), or start at 1
        (Qwen3-Omni). The output norm of Gated DeltaNet is plain in both.
      remat: None keeps what the backward pass needs; otherwise a layer is computed again in the backward pass from its
        input and the named tensors (`REMAT_NAMES`), which are kept.
      unroll: lays the layers out one after another instead of in a loop: the same numbers, faster steps for a shallow
        model on a CPU, longer compilation for a deep one.
      stacked: parameters and caches of equal layers share one array. False gives every layer its own (`layer_<n>`), so
        that a step on a CPU reads its weights where they lie; `layers.decoder.unstack` converts.
    """

    model_dim: int = 160
    periods: int = 1
    pattern: tuple[str, ...] = ("gdn", "gdn", "gdn", "attention")
    gdn: GatedDeltaNetConfig = GatedDeltaNetConfig()
    attention: AttentionConfig = AttentionConfig()
    feed_forward: FeedForwardConfig = FeedForwardConfig()
    norm_eps: float = 1e-6
    zero_centred_norms: bool = True
    remat: tuple[str, ...] | None = None
    unroll: bool = False
    stacked: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "model_dim", "periods", "norm_eps")
        require(
            len(self.pattern) > 0 and set(self.pattern) <= {"gdn", "attention"},
            self,
            "pattern",
            "a non-empty sequence of gdn and attention",
        )
        require(
            self.remat is None or set(self.remat) <= set(REMAT_NAMES),
            self,
            "remat",
            "None, or names out of " + ", ".join(REMAT_NAMES),
        )

    @property
    def num_layers(self) -> int:
        """Mixers, each with its feed-forward block."""
        return self.periods * len(self.pattern)


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig:
    """Embedding, decoder and output head.

    Attributes:
      vocab_size: tokens.
      decoder: the layers between.
      tie_embeddings: the head is the transposed embedding table.
      num_mtp_layers: layers of the multi-token-prediction head (Qwen3.5 has 1), 0 for none.
      router_aux_weight: weight of the load-balancing loss in training.
      dtype: of activations, `float32`, `bfloat16`, or `float64` for reference values in 64-bit mode; parameters keep
        their own.
    """

    vocab_size: int
    decoder: DecoderConfig
    tie_embeddings: bool = False
    num_mtp_layers: int = 0
    router_aux_weight: float = 0.001
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "vocab_size")
        require(self.num_mtp_layers in (0, 1), self, "num_mtp_layers", "0 or 1")
        require(self.router_aux_weight >= 0, self, "router_aux_weight", "0 or more")
        require_one_of(self, "dtype", DTYPES)
