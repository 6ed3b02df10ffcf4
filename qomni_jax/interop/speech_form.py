"""The released form of a Talker or of a codec: its config.json and its tensors' names, to ours."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig
from qomni_jax.config.waveform_codec import WaveformCodecConfig
from qomni_jax.interop.codec_families import CODE2WAV, MIMI, parse_codec
from qomni_jax.interop.codec_keys import codec_key_map
from qomni_jax.interop.key_map import Rule
from qomni_jax.interop.talker_families import QWEN3_OMNI_TALKER, parse_talker
from qomni_jax.interop.talker_keys import talker_key_map
from qomni_jax.storage.errors import CheckpointError

# Class of the part alone, by family; that of the Qwen3-TTS decoder stands in no config.json.
_ARCHITECTURES = {
    QWEN3_OMNI_TALKER: "Qwen3OmniMoeTalkerForConditionalGeneration",
    CODE2WAV: "Qwen3OmniMoeCode2Wav",
    MIMI: "MimiModel",
}


class SpeechForm(NamedTuple):
    """How a release writes a Talker or a codec.

    Attributes:
      family: `qwen3_omni_talker`, or one of `codec_families`.
      config: ours.
      fields: its config.json, that of the part alone, with the type of its weights.
      prefix: what stands before the names of its tensors inside a model; empty for one that is alone.
      experts: of a Talker, how the names of the experts show them, as in `key_map.Layout`.
      flags: of a codec, its file holds the flags of `codec_keys`.
    """

    family: str
    config: Qwen3OmniTalkerConfig | WaveformCodecConfig
    fields: Mapping[str, Any]
    prefix: str = ""
    experts: str = "fused"
    flags: bool = False

    def rules(self) -> dict[str, Rule]:
        """Released name -> rule, for every tensor of a part of this form."""
        if isinstance(self.config, Qwen3OmniTalkerConfig):
            return talker_key_map(self.config, self.prefix, self.experts)
        return codec_key_map(self.config, self.family, self.prefix, flags=self.flags)

    def alone(self) -> "SpeechForm":
        """The form of the same part outside of a model; the class of a Talker alone has its experts in one tensor."""
        return self._replace(prefix="", experts="fused") if self.prefix else self

    def released_config(self, dtype: str) -> dict[str, Any]:
        """The config.json of the part alone."""
        fields = {name: value for name, value in self.fields.items() if name not in ("architectures", "torch_dtype")}
        if self.family in _ARCHITECTURES:
            fields["architectures"] = [_ARCHITECTURES[self.family]]
        return dict(sorted({**fields, "dtype": dtype}.items()))

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        written = ("family", "prefix", "experts", "flags")
        return {**{name: getattr(self, name) for name in written}, "released": dict(self.fields)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str) -> "SpeechForm":
        """The inverse of `to_json`; raises CheckpointError for what that has not given."""
        try:
            family, fields = values["family"], values["released"]
            names = {name: values[name] for name in ("prefix", "experts", "flags")}
            parsed = parse_talker(fields, source) if family == QWEN3_OMNI_TALKER else parse_codec(fields, source)
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{source}: not the config of a converted Talker or codec ({error!r})") from None
        return cls(family, parsed.config, fields, **names)
