"""Configuration of the Thinker."""

import dataclasses

from qomni_jax.config.audio import AudioEncoderConfig
from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.vision import VisionEncoderConfig


@dataclasses.dataclass(frozen=True)
class ThinkerConfig:
    """A language model and the encoders whose outputs stand between its text; None for one that is not there.

    Raises ValueError where an encoder's output is not as wide as the decoder, or has more DeepStack levels than the
    decoder has periods.
    """

    language_model: LanguageModelConfig
    audio: AudioEncoderConfig | None = None
    vision: VisionEncoderConfig | None = None

    def __post_init__(self) -> None:
        decoder = self.language_model.decoder
        for name, encoder in (("audio", self.audio), ("vision", self.vision)):
            if encoder is not None and encoder.output_dim != decoder.model_dim:
                raise ValueError(
                    f"ThinkerConfig.{name}.output_dim = {encoder.output_dim}: accepted is the decoder's model_dim, "
                    f"{decoder.model_dim}"
                )
        levels = 0 if self.vision is None else len(self.vision.deepstack_layers)
        if levels > decoder.periods:
            raise ValueError(
                f"ThinkerConfig.vision.deepstack_layers: {levels} of them: accepted are at most the decoder's "
                f"{decoder.periods} periods"
            )
