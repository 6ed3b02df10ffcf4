"""Released configurations of codecs, alone or inside a model, to ours."""

from collections.abc import Callable, Mapping
import math
from typing import Any, NamedTuple

from qomni_jax.config.waveform_codec import (
    CodeEmbeddingConfig,
    ConvStackConfig,
    SplitRVQConfig,
    WaveformCodecConfig,
    WaveformDecoderConfig,
    WaveformEncoderConfig,
    WindowTransformerConfig,
)
from qomni_jax.interop.fields import Fields
from qomni_jax.storage.errors import CheckpointError

CODE2WAV, TTS_12HZ, MIMI = "qwen3_omni_code2wav", "qwen3_tts_12hz_decoder", "mimi"
# Of a whole Qwen3-Omni, and of the Qwen3-TTS tokenizer, which has an encoder beside it.
_OUTER_PARTS = ("code2wav_config", "decoder_config")
_LATENT = "latent_dim"  # a field of the Qwen3-TTS decoder alone
_DECODER = "decoder_dim"  # a field of both Qwen decoders


class ReleasedCodec(NamedTuple):
    """What config.json says of a codec.

    Attributes:
      family: `qwen3_omni_code2wav`, `qwen3_tts_12hz_decoder` or `mimi`.
      config: ours.
      fields: its part of config.json, with the type of its weights.
    """

    family: str
    config: WaveformCodecConfig
    fields: dict[str, Any]


def is_codec(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a codec. Those of the Qwen decoders name no `model_type`: sizes tell."""
    decoder = config.get("decoder_config")
    inner = decoder if isinstance(decoder, Mapping) else config
    return config.get("model_type") == "mimi" or _DECODER in inner


def parse_codec(config: Mapping[str, Any], source: str = "config.json") -> ReleasedCodec:
    """The codec of a config.json. Raises CheckpointError, naming the field, for none that we know."""
    part = next((config[name] for name in _OUTER_PARTS if name in config), config)
    if not isinstance(part, Mapping) or not is_codec(part):
        raise CheckpointError(
            f"{source}: model_type = {config.get('model_type')!r}: accepted is a codec: 'mimi', one with {_DECODER} "
            f"(Code2Wav, the Qwen3-TTS 12 Hz decoder), or a model with {' or '.join(_OUTER_PARTS)}"
        )
    family = MIMI if part.get("model_type") == "mimi" else TTS_12HZ if _LATENT in part else CODE2WAV
    declared = next((c[key] for c in (part, config) for key in ("dtype", "torch_dtype") if c.get(key)), None)
    fields = {**part, "dtype": declared}
    try:
        return ReleasedCodec(family, _BUILD[family](Fields(fields)), fields)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {family}: {error}") from None


def _code2wav(fields: Fields) -> WaveformCodecConfig:
    width = fields.whole("hidden_size")
    return WaveformCodecConfig(
        quantizer=CodeEmbeddingConfig(fields.whole("num_quantizers"), fields.whole("codebook_size"), width),
        decoder=_qwen_decoder(fields, outer_dim=None, pre_conv=0, trim="both"),
        dtype=_dtype(fields),
    )


def _tts_12hz(fields: Fields) -> WaveformCodecConfig:
    width = fields.positive("codebook_dim")
    return WaveformCodecConfig(
        quantizer=SplitRVQConfig(
            num_codebooks=fields.whole("num_quantizers"),
            codebook_size=fields.whole("codebook_size"),
            codebook_dim=width // 2,
            model_dim=width,
        ),
        decoder=_qwen_decoder(fields, outer_dim=fields.whole(_LATENT), pre_conv=3, trim="right"),
        dtype=_dtype(fields),
    )


def _qwen_decoder(fields: Fields, *, outer_dim: int | None, pre_conv: int, trim: str) -> WaveformDecoderConfig:
    fields.require(hidden_act="silu", attention_bias=False)
    rates, width = _rates(fields, "upsample_rates"), fields.positive(_DECODER)
    if width % 2 ** len(rates):
        raise ValueError(f"{_DECODER} = {width}: accepted is a multiple of {2 ** len(rates)}")
    return WaveformDecoderConfig(
        transformer=_transformer(fields, outer_dim=outer_dim, norm_eps=fields.number("rms_norm_eps")),
        stack=ConvStackConfig(channels=width // 2 ** len(rates), rates=rates),
        pre_conv=pre_conv,
        upsampling_ratios=_rates(fields, "upsampling_ratios"),
        trim=trim,
    )


def _mimi(fields: Fields) -> WaveformCodecConfig:
    width, sample_rate = fields.positive("hidden_size"), fields.positive("sampling_rate")
    fields.require(
        hidden_act="gelu",
        attention_bias=False,
        audio_channels=1,
        use_causal_conv=True,
        use_conv_shortcut=False,
        pad_mode="constant",
        trim_right_ratio=1.0,
        upsample_groups=width,
        vector_quantization_hidden_dimension=fields.whole("codebook_dim"),
    )
    rates = _rates(fields, "upsampling_ratios")
    growth = fields.positive("dilation_growth_rate")
    stack = ConvStackConfig(
        channels=fields.whole("num_filters"),
        rates=rates,
        kernel_size=fields.whole("kernel_size"),
        last_kernel_size=fields.whole("last_kernel_size"),
        residual_kernel_size=fields.whole("residual_kernel_size"),
        dilations=tuple(growth**number for number in range(fields.positive("num_residual_layers"))),
        compress=fields.whole("compress"),
        activation="elu",
    )
    halved = sample_rate / (2 * math.prod(rates))
    for name in ("frame_rate", "_frame_rate"):
        if fields.number(name, halved) != halved:
            raise ValueError(f"{name} = {fields.values[name]!r}: accepted is {halved}, two steps of the convolutions")
    transformer = _transformer(fields, norm="layer", norm_eps=fields.number("norm_eps"), final_norm=False, mlp="gelu")
    return WaveformCodecConfig(
        quantizer=SplitRVQConfig(
            num_codebooks=fields.whole("num_quantizers"),
            num_semantic=fields.whole("num_semantic_quantizers"),
            codebook_size=fields.whole("codebook_size"),
            codebook_dim=fields.whole("codebook_dim"),
            model_dim=width,
        ),
        decoder=WaveformDecoderConfig(transformer, stack, pre_upsampling=2, clip=False),
        encoder=WaveformEncoderConfig(stack, transformer),
        sample_rate=sample_rate,
        dtype=_dtype(fields),
    )


def _transformer(fields: Fields, **differences: Any) -> WindowTransformerConfig:
    rope = Fields({**fields.values, **(fields.values.get("rope_parameters") or {})})
    rope.require(rope_type="default")
    width, heads = fields.positive("hidden_size"), fields.positive("num_attention_heads")
    return WindowTransformerConfig(
        model_dim=width,
        num_layers=fields.whole("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=fields.whole("num_key_value_heads"),
        head_dim=fields.whole("head_dim", width // heads),
        mlp_dim=fields.whole("intermediate_size"),
        window=fields.whole("sliding_window"),
        rope_theta=rope.number("rope_theta", 10_000.0),
        **differences,
    )


def _rates(fields: Fields, name: str) -> tuple[int, ...]:
    found = fields.values.get(name)
    if not isinstance(found, (list, tuple)):
        raise ValueError(f"{name} = {found!r}: accepted is a list of whole numbers")
    return tuple(found)


def _dtype(fields: Fields) -> str:
    return "bfloat16" if fields.values["dtype"] == "bfloat16" else "float32"


_BUILD: dict[str, Callable[[Fields], WaveformCodecConfig]] = {
    CODE2WAV: _code2wav,
    TTS_12HZ: _tts_12hz,
    MIMI: _mimi,
}
