"""The released config.json of a Thinker of ours, and which release has one of its kind."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.interop.encoder_families import released_audio_encoder, released_vision_encoder
from qomni_jax.interop.families import FAMILIES, Family, released_config
from qomni_jax.interop.key_map import Layout
from qomni_jax.interop.thinker_form import VISION_TYPES, ThinkerForm, read_thinker_config
from qomni_jax.sequence.special_tokens import (
    AUDIO_END,
    AUDIO_PAD,
    AUDIO_START,
    IMAGE_PAD,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
)
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.thinker.storage import StoredThinker, Tokenizer

# Class of the model with encoders, by family.
_ARCHITECTURES = {
    "qwen3_5": "Qwen3_5ForConditionalGeneration",
    "qwen3_5_moe": "Qwen3_5MoeForConditionalGeneration",
    "qwen3_omni_thinker": "Qwen3OmniMoeThinkerForConditionalGeneration",
}
_SEEN = {
    "image_token_id": IMAGE_PAD,
    "video_token_id": VIDEO_PAD,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}
_HEARD = {"audio_token_id": AUDIO_PAD, "audio_start_token_id": AUDIO_START, "audio_end_token_id": AUDIO_END}
# Fields that change how something is computed, trained or asked, and not what a release computes with its weights.
_FREE = {
    *("backend", "remat", "unroll", "dtype", "chunk_size", "block_size", "dispatch", "ragged_headroom", "pass_tokens"),
    *("training_windows", "full_window_rate", "audio_timestamp_interval", "audio_timestamp_range"),
    *("min_pixels", "max_pixels", "max_aspect_ratio", "router_aux_weight"),
}


def released_thinker_config(
    stored: StoredThinker, form: ThinkerForm, dtype: str, tokenizer: Tokenizer | None = None
) -> dict[str, Any]:
    """What we know over what the form's config.json said; ids of tokens that it does not say are the tokenizer's.

    Raises CheckpointError where neither has an id.
    """
    config, original = stored.config, form.config
    if not stored.kinds:
        return released_config(config.language_model, form.family, original, dtype)
    text = released_config(config.language_model, form.family, original.get("text_config") or {}, dtype)
    del text["architectures"]
    fields: dict[str, Any] = {
        **original,
        "architectures": [_ARCHITECTURES[form.family.name]],
        "model_type": form.family.composite_type,
        "dtype": dtype,
        "tie_word_embeddings": config.language_model.tie_embeddings,
        "text_config": text,
    }
    fields.pop("torch_dtype", None)
    ids: dict[str, str] = {}
    if config.vision is not None:
        vision = original.get("vision_config") or {}
        fields["vision_config"] = released_vision_encoder(config.vision, VISION_TYPES[form.family.name], vision)
        ids |= _SEEN
    if config.audio is not None:
        fields["audio_config"] = released_audio_encoder(config.audio, original.get("audio_config") or {})
        fields["position_id_per_seconds"] = _whole(stored.sequence.ids_per_second)
        ids |= _HEARD
    fields |= {name: _id(token, tokenizer) for name, token in ids.items() if original.get(name) is None}
    return dict(sorted(fields.items()))


def find_form(stored: StoredThinker, tokenizer: Tokenizer | None, source: str) -> ThinkerForm:
    """The release whose Thinker is of the same kind, for one that came from no release.

    Raises CheckpointError, naming the field, where there is none, as for the system's own kind.
    """
    config = stored.config
    family = language_family(config.language_model)
    if config.audio is not None and config.audio.num_convs != 3:
        raise CheckpointError(
            f"{source}: an audio encoder of {config.audio.num_convs} convolutions has no released class: accepted is "
            "one of 3 (Qwen3-Omni) or none (Qwen3.5); --part=language_model takes the language model alone"
        )
    if not stored.kinds:
        form = ThinkerForm(family, Layout())
    elif family.name not in _ARCHITECTURES or (family.outer_type and None in (config.audio, config.vision)):
        raise CheckpointError(
            f"{source}: these encoders beside the language model of {family.name} have no released class: accepted is "
            "vision in Qwen3.5, or audio and vision in Qwen3-Omni"
        )
    elif family.outer_type:
        form = ThinkerForm(family, Layout(), "visual.", "audio_tower.")
    else:
        form = ThinkerForm(family, Layout("model.language_model."), "model.visual.")
    written = released_thinker_config(stored, form, "float32", tokenizer)
    theirs = read_thinker_config(written, source)
    parts = ["config", *(["sequence", "image"] if stored.kinds else []), *(["features"] if config.audio else [])]
    for part in parts:
        ours, wanted = (dataclasses.asdict(getattr(of, part)) for of in (stored, theirs))
        difference = _first_difference(ours, wanted, part)
        if difference:
            name, value, accepted = difference
            raise CheckpointError(
                f"{source}: {name} = {value!r}: accepted is {accepted!r}, as {written['architectures'][0]} has it"
            )
    return form


def language_family(config: LanguageModelConfig) -> Family:
    """The family whose language model has the structure of ours."""
    decoder = config.decoder
    if not decoder.zero_centred_norms:
        name = "qwen3_omni_thinker"
    elif decoder.attention.mrope_section is None:
        name = "qwen3_next"
    else:
        name = "qwen3_5_moe" if decoder.feed_forward.num_experts else "qwen3_5"
    return next(family for family in FAMILIES if family.name == name)


def _id(token: str, tokenizer: Tokenizer | None) -> int:
    if tokenizer is None:
        raise CheckpointError(f"tokenizer.json is missing: accepted is one with {token}, whose id config.json tells")
    try:
        return tokenizer.special(token)
    except ValueError as error:
        raise CheckpointError(f"tokenizer.json: {error}") from None


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _first_difference(ours: Any, theirs: Any, name: str) -> tuple[str, Any, Any] | None:
    """Path and values of the first field that is not equal, apart from the free ones."""
    if not (isinstance(ours, Mapping) and isinstance(theirs, Mapping)):
        return None if ours == theirs else (name, ours, theirs)
    for field in ours:
        unused = field == "gdn" and "gdn" not in ours["pattern"]
        unused |= field in ("top_k", "expert_dim", "normalize_top_k") and not ours["num_experts"]
        if field not in _FREE and not unused:
            found = _first_difference(ours[field], theirs[field], f"{name}.{field}")
            if found:
                return found
    return None
