"""Configuration of the audio front end."""

import dataclasses

from qomni_jax.config import validation
from qomni_jax.config.codec import LogMelConfig


@dataclasses.dataclass(frozen=True)
class AudioFeatureConfig:
    """Log-mel features of the audio encoders, `[frames, num_mels]` with one frame every `hop_size` samples.

    Attributes:
      sample_rate: Hz.
      window_size: samples of the periodic Hann window, and of its Fourier transform.
      hop_size: samples between frames.
      num_mels: triangular filters from 0 Hz to half of the sample rate, on the "slaney" scale.
      floor: what bounds the features from below: "fixed" is `floor_level`, the same for every recording, so that a
        live stream has the features of its recording; "utterance" is 8 decades below the largest value of the
        recording, as the encoders of the released ancestors were trained.
      floor_level: log10 of mel power; the default is the utterance floor of a recording whose loudest mel value is 10,
        as speech that peaks near half of full scale has it.
    """

    sample_rate: int = 16_000
    window_size: int = 400
    hop_size: int = 160
    num_mels: int = 128
    floor: str = "fixed"
    floor_level: float = -7.0

    def __post_init__(self):
        validation.check_types(self)
        validation.require_positive(self, "sample_rate", "window_size", "hop_size", "num_mels")
        validation.require(
            self.hop_size <= self.window_size, self, "hop_size", f"at most window_size = {self.window_size}"
        )
        for field in ("window_size", "hop_size"):
            validation.require(getattr(self, field) % 2 == 0, self, field, "an even number")
        validation.require_one_of(self, "floor", ("fixed", "utterance"))

    @property
    def mel(self) -> LogMelConfig:
        """The power mel spectrogram whose logarithm the features are."""
        return LogMelConfig(
            sample_rate=self.sample_rate,
            fft_size=self.window_size,
            window_size=self.window_size,
            hop_size=self.hop_size,
            num_mels=self.num_mels,
            min_frequency=0.0,
            max_frequency=self.sample_rate / 2,
            clip=1e-10,
            power=2.0,
        )

    def num_frames(self, samples: int) -> int:
        """Frames of a recording of `samples` samples: one for each whole hop."""
        return samples // self.hop_size
