"""The released families: their config.json to our configuration and back."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qomni_jax.config.decoder import (
    AttentionConfig,
    DecoderConfig,
    FeedForwardConfig,
    GatedDeltaNetConfig,
    LanguageModelConfig,
)
from qomni_jax.interop.fields import Fields
from qomni_jax.storage.errors import CheckpointError


class Family(NamedTuple):
    """One released architecture.

    Attributes:
      name: of the family, as `inspect` prints it.
      text_type, composite_type: `model_type` of the language model alone, and of the model with vision around it.
      architecture: class name of the language model alone.
      experts: its feed-forward blocks are mixtures of experts.
      grouped_projections: Gated DeltaNet's projections come fused, grouped by key head.
      top_k_switch: the config says whether the chosen experts' probabilities are scaled to sum to 1.
      mrope_section: what a config that omits it means; None where the family has one position a token.
      hybrid: three Gated DeltaNet layers to one of attention, zero-centred norms, gated attention of which a quarter
        is rotated; otherwise attention alone with plain norms, all of it rotated, no gate (Qwen3).
      shared_expert: stands beside the experts.
      outer_type: `model_type` of a config that holds the composite one's as `thinker_config`.
    """

    name: str
    text_type: str
    composite_type: str | None
    architecture: str
    experts: bool
    grouped_projections: bool
    top_k_switch: bool
    mrope_section: tuple[int, ...] | None
    hybrid: bool = True
    shared_expert: bool = True
    outer_type: str | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """Every `model_type` that means this family."""
        return tuple(name for name in (self.text_type, self.composite_type, self.outer_type) if name)


FAMILIES = (
    Family(
        name="qwen3_5",
        text_type="qwen3_5_text",
        composite_type="qwen3_5",
        architecture="Qwen3_5ForCausalLM",
        experts=False,
        grouped_projections=False,
        top_k_switch=False,
        mrope_section=(11, 11, 10),
    ),
    Family(
        name="qwen3_5_moe",
        text_type="qwen3_5_moe_text",
        composite_type="qwen3_5_moe",
        architecture="Qwen3_5MoeForCausalLM",
        experts=True,
        grouped_projections=False,
        top_k_switch=False,
        mrope_section=(11, 11, 10),
    ),
    Family(
        name="qwen3_next",
        text_type="qwen3_next",
        composite_type=None,
        architecture="Qwen3NextForCausalLM",
        experts=True,
        grouped_projections=True,
        top_k_switch=True,
        mrope_section=None,
    ),
    Family(
        name="qwen3_omni_thinker",
        text_type="qwen3_omni_moe_text",
        composite_type="qwen3_omni_moe_thinker",
        architecture="Qwen3OmniMoeThinkerTextModel",
        experts=True,
        grouped_projections=False,
        top_k_switch=True,
        mrope_section=(24, 20, 20),
        hybrid=False,
        shared_expert=False,
        outer_type="qwen3_omni_moe",
    ),
)

_KINDS = {"linear_attention": "gdn", "full_attention": "attention"}
# `dtype` of a config -> its name in safetensors files.
CONFIG_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
# What the layers compute; a config that asks for something else would load and be wrong.
_FIXED: dict[str, Any] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "sliding_window": None,
}


class ReleasedModel(NamedTuple):
    """A config.json, understood. `composite`: the language model is the text part of a model with vision."""

    family: Family
    composite: bool
    text: dict[str, Any]
    config: LanguageModelConfig


def parse_config(config: Mapping[str, Any], source: str = "config.json") -> ReleasedModel:
    """Understands a released config.json.

    Raises CheckpointError, naming the field: an unknown `model_type`, an absent size, a wrong type, multi-section
    rotary counts that do not sum, or a variant that the layers do not compute.
    """
    model_type = config.get("model_type")
    family = next((f for f in FAMILIES if model_type in f.types), None)
    if family is None:
        accepted = ", ".join(name for f in FAMILIES for name in f.types)
        raise CheckpointError(f"{source}: model_type = {model_type!r}: accepted is one of {accepted}")
    if model_type == family.outer_type:
        config = _part(config, "thinker_config", source)
    composite = model_type != family.text_type
    text = dict(config)
    if composite:
        text = _part(config, "text_config", source)
        inherited = {key: config[key] for key in ("tie_word_embeddings", "dtype", "torch_dtype") if key in config}
        text = {**text, **{key: value for key, value in inherited.items() if value is not None}}
    try:
        return ReleasedModel(family, composite, text, read_language_model(family, Fields(text)))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}") from None


def _part(config: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    part = config.get(name) or {}
    if not isinstance(part, Mapping):
        raise CheckpointError(f"{source}: {name} = {part!r}: accepted is an object")
    return dict(part)


def released_config(
    config: LanguageModelConfig, family: Family, original: Mapping[str, Any], dtype: str
) -> dict[str, Any]:
    """The config.json of the language model alone: what we know over what the original said."""
    decoder = config.decoder
    gdn, attention, feed_forward = decoder.gdn, decoder.attention, decoder.feed_forward
    names = {kind: name for name, kind in _KINDS.items()}
    rope: dict[str, Any] = {
        **(original.get("rope_parameters") or {}),
        "rope_type": "default",
        "rope_theta": attention.rope_theta,
        "partial_rotary_factor": attention.rotary_fraction,
    }
    if attention.mrope_section is not None:
        rope |= {"mrope_interleaved": True, "mrope_section": list(attention.mrope_section)}
    fields: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.text_type,
        "dtype": dtype,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_size": decoder.model_dim,
        "num_hidden_layers": decoder.num_layers,
        "rms_norm_eps": decoder.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "head_dim": attention.head_dim,
        "rope_parameters": rope,
    }
    if family.hybrid:
        fields |= {
            "layer_types": [names[kind] for kind in decoder.pattern * decoder.periods],
            "linear_conv_kernel_dim": gdn.conv_width,
            "linear_key_head_dim": gdn.head_key_dim,
            "linear_value_head_dim": gdn.head_value_dim,
            "linear_num_key_heads": gdn.num_key_heads,
            "linear_num_value_heads": gdn.num_value_heads,
        }
    if feed_forward.num_experts:
        fields |= {
            "num_experts": feed_forward.num_experts,
            "num_experts_per_tok": feed_forward.top_k,
            "moe_intermediate_size": feed_forward.expert_dim,
            "router_aux_loss_coef": config.router_aux_weight,
        }
        if family.shared_expert:
            fields["shared_expert_intermediate_size"] = feed_forward.hidden_dim
        if family.top_k_switch:
            fields["norm_topk_prob"] = feed_forward.normalize_top_k
    else:
        fields["intermediate_size"] = feed_forward.hidden_dim
    if config.num_mtp_layers:
        fields["mtp_num_hidden_layers"] = config.num_mtp_layers
    dropped = {"torch_dtype", "rope_theta", "rope_scaling", "partial_rotary_factor", "full_attention_interval"}
    return dict(sorted({**{k: v for k, v in original.items() if k not in dropped}, **fields}.items()))


def read_language_model(family: Family, fields: Fields) -> LanguageModelConfig:
    """Ours of the fields of a language model. Raises ValueError, naming the field, as `parse_config` says."""
    fields.require(**_FIXED, attn_output_gate=family.hybrid)
    dtype = fields.values.get("dtype") or fields.values.get("torch_dtype")
    pattern, periods = _pattern(family, fields)
    return LanguageModelConfig(
        vocab_size=fields.whole("vocab_size"),
        tie_embeddings=fields.flag("tie_word_embeddings", False),
        num_mtp_layers=fields.whole("mtp_num_hidden_layers", 0),
        router_aux_weight=fields.number("router_aux_loss_coef", 0.001),
        dtype="bfloat16" if dtype == "bfloat16" else "float32",
        decoder=DecoderConfig(
            model_dim=fields.whole("hidden_size"),
            periods=periods,
            pattern=pattern,
            norm_eps=fields.number("rms_norm_eps", 1e-6),
            zero_centred_norms=family.hybrid,
            gdn=GatedDeltaNetConfig(
                num_key_heads=fields.whole("linear_num_key_heads", 16),
                num_value_heads=fields.whole("linear_num_value_heads", 32),
                head_key_dim=fields.whole("linear_key_head_dim", 128),
                head_value_dim=fields.whole("linear_value_head_dim", 128),
                conv_width=fields.whole("linear_conv_kernel_dim", 4),
                chunk_size=64,
            ),
            attention=_attention(family, fields),
            feed_forward=_feed_forward(family, fields),
        ),
    )


def _pattern(family: Family, fields: Fields) -> tuple[tuple[str, ...], int]:
    """The shortest pattern of layers, and how often it repeats."""
    count = fields.positive("num_hidden_layers")
    types = fields.values.get("layer_types")
    if types is None:
        interval = fields.positive("full_attention_interval", 4 if family.hybrid else 1)
        types = ["linear_attention" if (i + 1) % interval else "full_attention" for i in range(count)]
    if not isinstance(types, Sequence) or len(types) != count or not set(types) <= _KINDS.keys():
        raise ValueError(f"layer_types = {types!r}: accepted is {count} (num_hidden_layers) of {', '.join(_KINDS)}")
    kinds = tuple(_KINDS[name] for name in types)
    length = next(n for n in range(1, count + 1) if count % n == 0 and kinds == kinds[:n] * (count // n))
    return kinds[:length], count // length


def _attention(family: Family, fields: Fields) -> AttentionConfig:
    """Rotary settings stand in `rope_parameters` (transformers 5), or beside it and in `rope_scaling` (before)."""
    rope = {**(fields.values.get("rope_scaling") or {}), **(fields.values.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "mrope"):
        raise ValueError(f"rope_type = {kind!r}: accepted is 'default'")
    if rope.get("mrope_interleaved", rope.get("interleaved", True)) is not True:
        raise ValueError("mrope_interleaved = false: accepted is true")
    rope = {name: rope.get(name, fields.values.get(name)) for name in (*rope, "rope_theta", "partial_rotary_factor")}
    section = rope.get("mrope_section") or family.mrope_section
    rotary = Fields(rope)
    return AttentionConfig(
        num_heads=fields.whole("num_attention_heads"),
        num_kv_heads=fields.whole("num_key_value_heads"),
        head_dim=fields.whole("head_dim", 256 if family.hybrid else 128),
        rotary_fraction=rotary.number("partial_rotary_factor", 0.25 if family.hybrid else 1.0),
        rope_theta=rotary.number("rope_theta", 10_000.0),
        mrope_section=None if section is None else tuple(section),
        gated=family.hybrid,
    )


def _feed_forward(family: Family, fields: Fields) -> FeedForwardConfig:
    if not family.experts or not fields.whole("num_experts"):
        return FeedForwardConfig(hidden_dim=fields.whole("intermediate_size"), num_experts=0)
    return FeedForwardConfig(
        hidden_dim=fields.whole("shared_expert_intermediate_size") if family.shared_expert else 0,
        num_experts=fields.whole("num_experts"),
        top_k=fields.whole("num_experts_per_tok"),
        expert_dim=fields.whole("moe_intermediate_size"),
        # Qwen3.5 always divides by the sum; the others have a switch, on in their releases.
        normalize_top_k=not family.top_k_switch or fields.flag("norm_topk_prob", True),
    )
