"""The sizes of a model that `inspect` shows."""

from typing import Any

from qomni_jax.config.decoder import DecoderConfig, LanguageModelConfig
from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig
from qomni_jax.config.waveform_codec import WaveformCodecConfig

_ATTENTION = ("num_heads", "num_kv_heads", "head_dim", "rotary_dim", "rope_theta", "mrope_section")
_GATED_DELTA_NET = ("num_key_heads", "num_value_heads", "head_key_dim", "head_value_dim", "conv_width")


def language_model_sizes(config: LanguageModelConfig) -> dict[str, Any]:
    """Of a language model, its multi-token-prediction head included."""
    own = {
        "vocab_size": config.vocab_size,
        "mtp_layers": config.num_mtp_layers,
        "tie_embeddings": config.tie_embeddings,
    }
    return own | _decoder_sizes(config.decoder)


def speech_sizes(config: Qwen3OmniTalkerConfig | WaveformCodecConfig) -> dict[str, Any]:
    """Of a Talker with its code predictor, or of a codec."""
    return _talker_sizes(config) if isinstance(config, Qwen3OmniTalkerConfig) else _codec_sizes(config)


def _talker_sizes(config: Qwen3OmniTalkerConfig) -> dict[str, Any]:
    names = ("num_codebooks", "codebook_size", "vocab_size", "thinker_dim", "projection_dim", "accept_layer")
    sizes = {name: getattr(config, name) for name in names}
    sizes["voices"] = [name for name, _ in config.tokens.speakers]
    predictor = {f"code_predictor.{name}": value for name, value in _decoder_sizes(config.predictor).items()}
    return sizes | _decoder_sizes(config.decoder) | predictor


def _codec_sizes(config: WaveformCodecConfig) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "sample_rate": config.sample_rate,
        "frame_rate": config.frame_rate,
        "samples_per_frame": config.samples_per_frame,
        "delay": config.decoder.delay,
        "num_codebooks": config.quantizer.num_codebooks,
        "codebook_size": config.quantizer.codebook_size,
    }
    sizes |= {f"transformer.{name}": value for name, value in vars(config.decoder.transformer).items()}
    sizes |= {f"stack.{name}": value for name, value in vars(config.decoder.stack).items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in sizes.items()}


def _decoder_sizes(decoder: DecoderConfig) -> dict[str, Any]:
    kinds = decoder.pattern * decoder.periods
    sizes: dict[str, Any] = {
        "model_dim": decoder.model_dim,
        "gated_delta_net_layers": kinds.count("gdn"),
        "attention_layers": kinds.count("attention"),
    }
    experts = ("num_experts", "top_k", "expert_dim") if decoder.feed_forward.num_experts else ()
    shown: list[tuple[str, Any, tuple[str, ...]]] = [("attention", decoder.attention, _ATTENTION)]
    if "gdn" in kinds:
        shown.append(("gated_delta_net", decoder.gdn, _GATED_DELTA_NET))
    shown.append(("feed_forward", decoder.feed_forward, ("hidden_dim", *experts)))
    return sizes | {f"{part}.{name}": getattr(of, name) for part, of, names in shown for name in names}
