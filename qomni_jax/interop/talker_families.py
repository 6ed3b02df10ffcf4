"""The released configuration of Qwen3-Omni's Talker, alone or inside the model, to ours."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from qomni_jax.config.qwen3_omni_talker import CodecTokens, Qwen3OmniTalkerConfig, SpeechTokens
from qomni_jax.interop.families import Family, read_language_model
from qomni_jax.interop.fields import Fields
from qomni_jax.storage.errors import CheckpointError

QWEN3_OMNI_TALKER = "qwen3_omni_talker"
_OUTER_PART = "talker_config"  # of a whole Qwen3-Omni
_PREDICTOR = "code_predictor_config"  # of a Talker alone
_BACKBONE = Family(
    name=QWEN3_OMNI_TALKER,
    text_type="qwen3_omni_moe_talker_text",
    composite_type=None,
    architecture="Qwen3OmniMoeTalkerModel",
    experts=True,
    grouped_projections=False,
    top_k_switch=True,
    mrope_section=(24, 20, 20),
    hybrid=False,
)
_CODE_PREDICTOR = _BACKBONE._replace(
    name="qwen3_omni_code_predictor",
    text_type="qwen3_omni_moe_talker_code_predictor",
    architecture="Qwen3OmniMoeTalkerCodePredictorModel",
    experts=False,
    mrope_section=None,
    shared_expert=False,
)


class ReleasedTalker(NamedTuple):
    """What config.json says of a Talker: ours, and its part of the file with the type of its weights."""

    config: Qwen3OmniTalkerConfig
    fields: dict[str, Any]


def is_talker(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a Talker alone."""
    return {_PREDICTOR, "text_config"} <= config.keys()


def speaks(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a whole Qwen3-Omni with its Talker; some are released without."""
    return isinstance(config.get(_OUTER_PART), Mapping) and config.get("enable_audio_output", True) is True


def parse_talker(config: Mapping[str, Any], source: str = "config.json") -> ReleasedTalker:
    """The Talker of a config.json. Raises CheckpointError, naming the field, for none that we know."""
    part = config.get(_OUTER_PART, config)
    if not isinstance(part, Mapping) or not is_talker(part):
        raise CheckpointError(
            f"{source}: model_type = {config.get('model_type')!r}: accepted is a Talker of Qwen3-Omni, with "
            f"{_PREDICTOR}, or a model with {_OUTER_PART}"
        )
    declared = next((c[key] for c in (part, config) for key in ("dtype", "torch_dtype") if c.get(key)), None)
    fields = {**part, "dtype": declared}
    try:
        return ReleasedTalker(_talker(Fields(fields)), fields)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: talker: {error}") from None


def parse_speech_tokens(config: Mapping[str, Any], source: str = "config.json") -> SpeechTokens:
    """Ids that the Talker's prompt is found by, of a whole Qwen3-Omni; raises CheckpointError for an absent one."""
    fields = Fields(config)
    names = ("im_start", "user", "assistant", "tts_pad", "tts_bos", "tts_eos")
    try:
        return SpeechTokens(**{name: fields.whole(f"{name}_token_id") for name in names})
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}") from None


def _talker(fields: Fields) -> Qwen3OmniTalkerConfig:
    # What the class does where the field is absent. Published files call the experts by either name.
    text: dict[str, Any] = {"norm_topk_prob": False, **_part(fields, "text_config")}
    text.setdefault("num_experts", text.get("num_local_experts"))
    dtype = {"dtype": fields.values["dtype"]}
    backbone = read_language_model(_BACKBONE, Fields(text | dtype))
    predictor_fields = Fields(_part(fields, _PREDICTOR) | dtype)
    predictor = read_language_model(_CODE_PREDICTOR, predictor_fields)
    codebooks = fields.whole("num_code_groups")
    if predictor_fields.whole("num_code_groups", codebooks) != codebooks:
        raise ValueError(
            f"{_PREDICTOR}: num_code_groups = {predictor_fields.values['num_code_groups']}: accepted is {codebooks}, "
            "that of the Talker"
        )
    return Qwen3OmniTalkerConfig(
        decoder=backbone.decoder,
        predictor=predictor.decoder,
        tokens=_tokens(fields),
        thinker_dim=fields.whole("thinker_hidden_size"),
        projection_dim=Fields(text).whole("intermediate_size"),
        vocab_size=backbone.vocab_size,
        num_codebooks=codebooks,
        codebook_size=predictor.vocab_size,
        accept_layer=fields.whole("accept_hidden_layer"),
        dtype=backbone.dtype,
    )


def _tokens(fields: Fields) -> CodecTokens:
    speakers = fields.values.get("speaker_id")
    if not isinstance(speakers, Mapping) or not speakers:
        raise ValueError(f"speaker_id = {speakers!r}: accepted is a mapping of names to ids")
    voices = Fields(speakers)
    return CodecTokens(
        pad=fields.whole("codec_pad_id"),
        bos=fields.whole("codec_bos_id"),
        eos=fields.whole("codec_eos_token_id"),
        nothink=fields.whole("codec_nothink_id"),
        think_bos=fields.whole("codec_think_bos_id"),
        think_eos=fields.whole("codec_think_eos_id"),
        speakers=tuple((name.lower(), voices.whole(name)) for name in speakers),
    )


def _part(fields: Fields, name: str) -> dict[str, Any]:
    part = fields.values[name]
    if not isinstance(part, Mapping):
        raise ValueError(f"{name} = {part!r}: accepted is an object")
    return dict(part)
