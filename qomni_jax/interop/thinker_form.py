"""The released form of a Thinker: its config.json and its tensors' names, to ours."""

from collections.abc import Mapping
import dataclasses
from typing import Any, NamedTuple

from qomni_jax.config.audio import AudioFeatureConfig
from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.sequence import qwen3_5, qwen3_omni
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.vision import ImageConfig
from qomni_jax.interop.encoder_families import parse_audio_encoder, parse_vision_encoder
from qomni_jax.interop.encoder_keys import audio_key_map, vision_key_map
from qomni_jax.interop.families import FAMILIES, Family, parse_config
from qomni_jax.interop.key_map import Layout, Rule, key_map, scoped
from qomni_jax.sequence.elements import Kind
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.thinker.storage import StoredThinker

PAD_FIELDS = {Kind.AUDIO: "audio_token_id", Kind.IMAGE: "image_token_id", Kind.VIDEO: "video_token_id"}
# `model_type` of the vision encoder of a family.
VISION_TYPES = {
    "qwen3_5": "qwen3_5_vision",
    "qwen3_5_moe": "qwen3_5_moe_vision",
    "qwen3_omni_thinker": "qwen3_omni_moe_vision_encoder",
}


class ThinkerForm(NamedTuple):
    """How a release writes a Thinker.

    Attributes:
      family, layout: of its language model.
      visual, audio: what stands before the names of the encoders' tensors.
      config: its config.json, that of the Thinker alone; empty for one that has not been released.
    """

    family: Family
    layout: Layout
    visual: str = ""
    audio: str = ""
    config: Mapping[str, Any] = {}

    def rules(self, config: ThinkerConfig) -> dict[str, Rule]:
        """Released name -> rule, for every tensor of a Thinker of this form."""
        rules = below("language_model/", key_map(config.language_model, self.family, self.layout))
        if config.vision is not None:
            seen = vision_key_map(config.vision, VISION_TYPES.get(self.family.name, ""), self.visual)
            rules |= below("vision_encoder/", seen)
        if config.audio is not None:
            rules |= below("audio_encoder/", audio_key_map(config.audio, self.audio))
        return rules

    def alone(self) -> "ThinkerForm":
        """The form of the same Thinker outside of a whole Qwen3-Omni."""
        prefixes = (prefix.removeprefix("thinker.") for prefix in (self.layout.prefix, self.visual, self.audio))
        prefix, visual, audio = prefixes
        return self._replace(layout=self.layout._replace(prefix=prefix), visual=visual, audio=audio)

    def inside(self) -> "ThinkerForm":
        """The form of the same Thinker inside of a whole Qwen3-Omni."""
        prefix, visual, audio = (f"thinker.{prefix}" for prefix in (self.layout.prefix, self.visual, self.audio))
        return self._replace(layout=self.layout._replace(prefix=prefix), visual=visual, audio=audio)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self._asdict(), "family": self.family.name, "layout": self.layout._asdict()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str) -> "ThinkerForm":
        """The inverse of `to_json`; raises CheckpointError for what that has not given."""
        try:
            family = next(family for family in FAMILIES if family.name == values["family"])
            return cls(**{**values, "family": family, "layout": Layout(**values["layout"])})
        except (KeyError, TypeError, StopIteration) as error:
            raise CheckpointError(f"{source}: not the released form of a Thinker ({error!r})") from None


def thinker_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config.json of the Thinker in that of a whole Qwen3-Omni, or itself."""
    inner = config.get("thinker_config")
    if not isinstance(inner, Mapping):
        return config
    outer = {name: config[name] for name in ("dtype", "torch_dtype") if config.get(name) and not inner.get(name)}
    return {**inner, **outer}


def has_encoders(config: Mapping[str, Any]) -> bool:
    """Whether a released config.json is of a model that sees or hears."""
    return bool({"vision_config", "audio_config"} & thinker_part(config).keys())


def read_thinker_config(
    config: Mapping[str, Any], source: str, language_model: LanguageModelConfig | None = None
) -> StoredThinker:
    """Ours of a Thinker's released config.json; `language_model` where more is known than stands in it.

    Raises CheckpointError, naming the field, for what is absent or not what the model computes.
    """
    model = ThinkerConfig(language_model or parse_config(config, source).config)
    sequence, image, features = qwen3_5(), ImageConfig(), AudioFeatureConfig()
    try:
        if "vision_config" in config:
            vision = parse_vision_encoder(config, source).config
            model = dataclasses.replace(model, vision=vision)
            image = ImageConfig(vision.patch_size, vision.merge_size, vision.temporal_patch_size)
        if "audio_config" in config:
            audio = parse_audio_encoder(config, source).config
            model = dataclasses.replace(model, audio=audio)
            features = AudioFeatureConfig(num_mels=audio.num_mels, floor="utterance")
            sequence = qwen3_omni()
            per_second = float(config.get("position_id_per_seconds", sequence.ids_per_second))
            sequence = dataclasses.replace(sequence, ids_per_second=per_second)
        sequence = dataclasses.replace(sequence, spatial_merge=image.merge_size)
    except CheckpointError:
        raise
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}") from None
    return StoredThinker(model, sequence, features, image)


def read_pads(config: Mapping[str, Any], stored: StoredThinker, source: str) -> dict[Kind, int]:
    """The id that stands for a feature, for every kind that the model reads, out of a released config.json."""
    for kind in stored.kinds:
        value = config.get(PAD_FIELDS[kind])
        if not isinstance(value, int):
            raise CheckpointError(f"{source}: {PAD_FIELDS[kind]} = {value!r}: accepted is the id of a token")
    return {kind: config[PAD_FIELDS[kind]] for kind in stored.kinds}


def below(ours: str, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """The rules of a part of a model as those of the whole, in which our arrays stand below `ours`."""
    return {name: scoped(rule, "", ours) for name, rule in rules.items()}
