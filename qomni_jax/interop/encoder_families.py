"""Released configurations of audio and vision encoders, alone or inside a model, to ours and back."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from qomni_jax.config.audio import AudioEncoderConfig
from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.config.vision import VisionEncoderConfig
from qomni_jax.interop.fields import Fields
from qomni_jax.storage.errors import CheckpointError

AUDIO_TYPES = ("qwen3_omni_moe_audio_encoder",)
VISION_TYPES = ("qwen3_5_vision", "qwen3_5_moe_vision", "qwen3_omni_moe_vision_encoder")
_DEEPSTACK_TYPE = VISION_TYPES[-1]
_HALVINGS = 3  # convolutions of the released audio encoder


class ReleasedEncoder(NamedTuple):
    """What config.json says of one encoder.

    Attributes:
      config: ours, an `AudioEncoderConfig` or a `VisionEncoderConfig`.
      model_type: of the encoder itself.
      fields: its part of config.json, with the type of its weights.
    """

    config: Any
    model_type: str
    fields: dict[str, Any]


def parse_audio_encoder(config: Mapping[str, Any], source: str = "config.json") -> ReleasedEncoder:
    """The audio encoder of a config.json. Raises CheckpointError, naming the field, for none that we know."""
    return _parse(config, "audio_config", AUDIO_TYPES, _audio, source)


def parse_vision_encoder(config: Mapping[str, Any], source: str = "config.json") -> ReleasedEncoder:
    """The vision encoder of a config.json. Raises CheckpointError, naming the field, for none that we know."""
    return _parse(config, "vision_config", VISION_TYPES, _vision, source)


def released_audio_encoder(config: AudioEncoderConfig, original: Mapping[str, Any]) -> dict[str, Any]:
    """The audio_config of ours, what we know over what the original said; ours must be of the released structure."""
    blocks, chunk = config.encoder, config.chunk_frames
    return {
        **original,
        "model_type": AUDIO_TYPES[0],
        "activation_function": "gelu",
        "scale_embedding": False,
        "num_mel_bins": config.num_mels,
        "n_window": chunk // 2,
        "n_window_infer": config.window_frames or chunk,
        "downsample_hidden_size": config.conv_channels,
        "conv_chunksize": config.conv_batch,
        "d_model": blocks.model_dim,
        "encoder_layers": blocks.num_layers,
        "encoder_attention_heads": blocks.num_heads,
        "encoder_ffn_dim": blocks.mlp_dim,
        "output_dim": config.output_dim,
    }


def released_vision_encoder(
    config: VisionEncoderConfig, model_type: str, original: Mapping[str, Any]
) -> dict[str, Any]:
    """The vision_config of ours, in the same way."""
    blocks = config.encoder
    rope = {"rope_type": "axial", **(original.get("rope_parameters") or {}), "rope_theta": config.rope_theta}
    fields: dict[str, Any] = {
        **original,
        "model_type": model_type,
        "hidden_act": "gelu_pytorch_tanh",
        "depth": blocks.num_layers,
        "hidden_size": blocks.model_dim,
        "num_heads": blocks.num_heads,
        "intermediate_size": blocks.mlp_dim,
        "num_position_embeddings": config.position_side**2,
        "out_hidden_size": config.output_dim,
        "in_channels": config.in_channels,
        "patch_size": config.patch_size,
        "temporal_patch_size": config.temporal_patch_size,
        "spatial_merge_size": config.merge_size,
        "rope_parameters": rope,
    }
    if model_type == _DEEPSTACK_TYPE:
        fields["deepstack_visual_indexes"] = list(config.deepstack_layers)
    return fields


def _parse(config: Mapping[str, Any], part: str, types: tuple[str, ...], build: Any, source: str) -> ReleasedEncoder:
    thinker = config.get("thinker_config")
    owner = config if part in config or not isinstance(thinker, Mapping) else thinker
    found = owner.get(part, owner)
    if not isinstance(found, Mapping) or found.get("model_type") not in types:
        kind = found.get("model_type") if isinstance(found, Mapping) else found
        raise CheckpointError(f"{source}: {part}: model_type = {kind!r}: accepted is one of {', '.join(types)}")
    declared = next((c[key] for c in (found, owner, config) for key in ("dtype", "torch_dtype") if c.get(key)), None)
    try:
        fields = {**found, "dtype": declared}
        return ReleasedEncoder(build(Fields(fields)), str(found["model_type"]), fields)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {part}: {error}") from None


def _audio(fields: Fields) -> AudioEncoderConfig:
    fields.require(activation_function="gelu", scale_embedding=False)
    chunk_frames = 2 * fields.positive("n_window")
    chunks = fields.positive("n_window_infer") // chunk_frames
    if not chunks:
        raise ValueError(f"n_window_infer = {fields.whole('n_window_infer')}: accepted is {chunk_frames} or more")
    return AudioEncoderConfig(
        num_mels=fields.whole("num_mel_bins"),
        chunk_frames=chunk_frames,
        num_convs=_HALVINGS,
        conv_channels=fields.whole("downsample_hidden_size"),
        conv_batch=fields.positive("conv_chunksize", 500),
        encoder=EncoderConfig(
            model_dim=fields.whole("d_model"),
            num_layers=fields.whole("encoder_layers"),
            num_heads=fields.whole("encoder_attention_heads"),
            mlp_dim=fields.whole("encoder_ffn_dim"),
            norm_eps=1e-5,
        ),
        window=chunks * -(-chunk_frames // 2**_HALVINGS),
        training_windows=(-(-chunk_frames // 2**_HALVINGS), chunks * -(-chunk_frames // 2**_HALVINGS)),
        projector="mlp",
        output_dim=fields.whole("output_dim"),
        dtype=_dtype(fields),
    )


def _vision(fields: Fields) -> VisionEncoderConfig:
    fields.require(hidden_act="gelu_pytorch_tanh")
    positions = fields.positive("num_position_embeddings")
    side = round(positions**0.5)
    if side**2 != positions:
        raise ValueError(f"num_position_embeddings = {positions}: accepted is a square")
    rope = Fields(fields.values.get("rope_parameters") or {})
    return VisionEncoderConfig(
        encoder=EncoderConfig(
            model_dim=fields.whole("hidden_size"),
            num_layers=fields.whole("depth"),
            num_heads=fields.whole("num_heads"),
            mlp_dim=fields.whole("intermediate_size"),
            norm_eps=1e-6,
            gelu="tanh",
        ),
        output_dim=fields.whole("out_hidden_size"),
        in_channels=fields.whole("in_channels", 3),
        patch_size=fields.whole("patch_size"),
        temporal_patch_size=fields.whole("temporal_patch_size"),
        merge_size=fields.whole("spatial_merge_size"),
        position_side=side,
        rope_theta=rope.number("rope_theta", 10_000.0),
        deepstack_layers=tuple(fields.values.get("deepstack_visual_indexes") or ()),
        dtype=_dtype(fields),
    )


def _dtype(fields: Fields) -> str:
    return "bfloat16" if fields.values["dtype"] == "bfloat16" else "float32"
