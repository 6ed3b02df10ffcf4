"""Configuration of the audio encoder and of the features that it reads."""

import dataclasses
from typing import Any

from qomni_jax.config.codec import LogMelConfig
from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.config.validation import DTYPES, check_types, require, require_one_of, require_positive


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

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "sample_rate", "window_size", "hop_size", "num_mels")
        require(self.hop_size <= self.window_size, self, "hop_size", f"at most window_size = {self.window_size}")
        for field in ("window_size", "hop_size"):
            require(getattr(self, field) % 2 == 0, self, field, "an even number")
        require_one_of(self, "floor", ("fixed", "utterance"))

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


@dataclasses.dataclass(frozen=True)
class AudioEncoderConfig:
    """AuT: convolutions that halve time and frequency, attention in windows, a projector to the decoder's width.

    The defaults are the structure of the system's own: 16 frames of 10 ms a token, final after 8 seconds at most.

    Attributes:
      encoder: the blocks.
      output_dim: width of the decoder.
      num_mels: features a frame.
      chunk_frames: the convolutions see this many frames at a time, zeros after a clip's last one. A multiple of
        `frames_per_token` gives every token the same duration (160 frames: 10 tokens of 160 ms); 100 frames with three
        convolutions give the 13 tokens a second of the released ancestor.
      num_convs, conv_channels: convolutions, each halves time and frequency; their width.
      conv_batch: chunks that go through the convolutions at a time, where there are more; bounds their memory. On a
        CPU a few are faster than many: what becomes of them stays in its cache.
      window: tokens that see each other, counted from a clip's start, whole chunks; None: all of a clip.
      training_windows: the smallest and the largest window that `audio.aut.sample_window` draws, in tokens.
      full_window_rate: how often it draws the whole clip instead.
      projector: `linear`, or `mlp` (linear, GELU, linear).
      dtype: of activations, `float32`, `bfloat16`, or `float64` for reference values in 64-bit mode; parameters keep
        their own.
    """

    encoder: EncoderConfig
    output_dim: int
    num_mels: int = 128
    chunk_frames: int = 160
    num_convs: int = 4
    conv_channels: int = 480
    conv_batch: int = 500
    window: int | None = 50
    training_windows: tuple[int, int] = (6, 50)
    full_window_rate: float = 0.25
    projector: str = "linear"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "num_mels", "chunk_frames", "num_convs", "conv_channels", "conv_batch", "output_dim")
        if self.window is not None:
            accepted = f"None, or a multiple of the {self.tokens_per_chunk} tokens of a chunk"
            require(self.window > 0 and self.window % self.tokens_per_chunk == 0, self, "window", accepted)
        require(
            1 <= self.training_windows[0] <= self.training_windows[1],
            self,
            "training_windows",
            "two whole numbers from 1 on, the smaller first",
        )
        require(0.0 <= self.full_window_rate <= 1.0, self, "full_window_rate", "a number in 0..1")
        require_one_of(self, "projector", ("linear", "mlp"))
        require_one_of(self, "dtype", DTYPES)
        if self.encoder.model_dim % 2 or self.encoder.model_dim < 4:
            raise ValueError(
                f"AudioEncoderConfig.encoder.model_dim = {self.encoder.model_dim}: accepted is an even number from 4 on"
            )

    @property
    def frames_per_token(self) -> int:
        """Frames that the convolutions join."""
        return 2**self.num_convs

    @property
    def tokens_per_chunk(self) -> int:
        """Tokens of a full chunk."""
        return -(-self.chunk_frames // self.frames_per_token)

    @property
    def window_frames(self) -> int | None:
        """Frames of a window; None where a clip is one."""
        return None if self.window is None else self.window // self.tokens_per_chunk * self.chunk_frames

    def num_tokens(self, frames: Any) -> Any:
        """Tokens of a clip of `frames` frames: a whole number for a whole number, an array for an array of them."""
        rest = -(-(frames % self.chunk_frames) // self.frames_per_token)
        return frames // self.chunk_frames * self.tokens_per_chunk + rest
