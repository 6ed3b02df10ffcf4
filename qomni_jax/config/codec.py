"""Configuration of the speech codec: log-mel front end, residual vector quantiser, causal vocoder, training."""

import dataclasses

from qomni_jax.config import validation


@dataclasses.dataclass(frozen=True)
class LogMelConfig:
    """Natural-log mel spectrogram, `[frames, num_mels]` with one frame every `hop_size` samples.

    Attributes:
      sample_rate: Hz.
      fft_size: samples; the window is zero-padded to it.
      window_size: samples of the periodic Hann window.
      hop_size: samples between frames.
      num_mels: triangular filters.
      min_frequency: Hz, lower edge of the first filter.
      max_frequency: Hz, upper edge of the last filter.
      clip: smallest mel value before the logarithm.
      mel_scale: "slaney" (linear below 1 kHz) or "htk"; both with area-normalised filters.
      power: exponent of the magnitude spectrum; 1 is magnitude, 2 is power.
    """

    sample_rate: int = 16_000
    fft_size: int = 1024
    window_size: int = 640
    hop_size: int = 160
    num_mels: int = 80
    min_frequency: float = 40.0
    max_frequency: float = 7800.0
    clip: float = 1e-3
    mel_scale: str = "slaney"
    power: float = 1.0

    def __post_init__(self):
        validation.check_types(self)
        validation.require_positive(
            self, "sample_rate", "fft_size", "window_size", "hop_size", "num_mels", "clip", "power"
        )
        validation.require_one_of(self, "mel_scale", ("slaney", "htk"))
        validation.require(
            self.window_size <= self.fft_size, self, "window_size", f"at most fft_size = {self.fft_size}"
        )
        validation.require(
            self.hop_size <= self.window_size, self, "hop_size", f"at most window_size = {self.window_size}"
        )
        validation.require(
            (self.window_size - self.hop_size) % 2 == 0, self, "window_size", "hop_size plus an even number"
        )
        validation.require(
            0 <= self.min_frequency < self.max_frequency,
            self,
            "min_frequency",
            f"from 0 to below max_frequency = {self.max_frequency}",
        )
        validation.require(
            self.max_frequency <= self.sample_rate / 2,
            self,
            "max_frequency",
            f"at most sample_rate / 2 = {self.sample_rate / 2}",
        )


@dataclasses.dataclass(frozen=True)
class RVQConfig:
    """Residual vector quantiser over stacked log-mel frames.

    Attributes:
      stack: log-mel frames joined into one codec frame (8 frames of 10 ms give 12.5 Hz).
      latent_dim: features kept by the analysis projection, at most `stack * num_mels`.
      num_codebooks: residual levels; a codec frame is that many codes.
      codebook_size: entries a level, at most 65536 (codes are stored as uint16).
    """

    stack: int = 8
    latent_dim: int = 128
    num_codebooks: int = 4
    codebook_size: int = 256

    def __post_init__(self):
        validation.check_types(self)
        validation.require_positive(self, "stack", "latent_dim", "num_codebooks")
        validation.require(2 <= self.codebook_size <= 65_536, self, "codebook_size", "2 to 65536")


@dataclasses.dataclass(frozen=True)
class VocoderConfig:
    """Causal ConvNeXt over log-mel frames with an inverse-STFT head.

    Attributes:
      width: channels of the residual stream.
      num_blocks: ConvNeXt blocks.
      kernel_size: mel frames seen by each causal convolution.
      expansion: hidden channels of a block's MLP over `width`.
      look_ahead: future mel frames each output frame may see; realised as output delay.
      window_size: samples of the synthesis window, a multiple of `hop_size`.
      hop_size: samples produced a mel frame.
    """

    width: int = 160
    num_blocks: int = 5
    kernel_size: int = 7
    expansion: int = 3
    look_ahead: int = 2
    window_size: int = 640
    hop_size: int = 160

    def __post_init__(self):
        validation.check_types(self)
        validation.require_positive(self, "width", "num_blocks", "kernel_size", "expansion", "window_size", "hop_size")
        validation.require(self.look_ahead >= 0, self, "look_ahead", "0 or more mel frames")
        validation.require(
            self.window_size % self.hop_size == 0 and self.window_size >= 2 * self.hop_size,
            self,
            "window_size",
            f"a multiple of hop_size = {self.hop_size}, at least twice it",
        )
        validation.require(
            (self.window_size - self.hop_size) % 2 == 0, self, "window_size", "hop_size plus an even number"
        )

    @property
    def edge(self) -> int:
        """Samples by which a frame's window reaches out of its own hop on either side."""
        return (self.window_size - self.hop_size) // 2

    @property
    def delay(self) -> int:
        """Algorithmic delay in samples: look-ahead plus the window's right edge."""
        return self.look_ahead * self.hop_size + self.edge

    @property
    def flush_frames(self) -> int:
        """Silent mel frames that push the last `delay` samples out of a stream."""
        return self.look_ahead + -(-self.edge // self.hop_size)


@dataclasses.dataclass(frozen=True)
class CodecConfig:
    """The whole codec; `samples_per_frame` samples (1280 at 16 kHz) are one codec frame of `num_codebooks` codes."""

    log_mel: LogMelConfig = LogMelConfig()
    rvq: RVQConfig = RVQConfig()
    vocoder: VocoderConfig = VocoderConfig()

    def __post_init__(self):
        validation.check_types(self)
        if self.vocoder.hop_size != self.log_mel.hop_size:
            raise ValueError(
                f"CodecConfig.vocoder.hop_size = {self.vocoder.hop_size}: "
                f"accepted is log_mel.hop_size = {self.log_mel.hop_size}"
            )
        if self.rvq.latent_dim > self.stacked_dim:
            raise ValueError(
                f"CodecConfig.rvq.latent_dim = {self.rvq.latent_dim}: "
                f"accepted is at most rvq.stack * log_mel.num_mels = {self.stacked_dim}"
            )

    @property
    def stacked_dim(self) -> int:
        return self.rvq.stack * self.log_mel.num_mels

    @property
    def samples_per_frame(self) -> int:
        return self.rvq.stack * self.log_mel.hop_size

    @property
    def frame_rate(self) -> float:
        """Codec frames a second."""
        return self.log_mel.sample_rate / self.samples_per_frame

    @property
    def sample_rate(self) -> int:
        return self.log_mel.sample_rate


@dataclasses.dataclass(frozen=True)
class CodecTrainingConfig:
    """k-means initialisation, then joint training of the vocoder and the quantiser.

    Attributes:
      utterances: recordings used, drawn without replacement from those given.
      kmeans_iterations: Lloyd iterations a level.
      steps: vocoder training steps; 0 stops after k-means.
      batch_size: crops a step.
      crop_frames: codec frames a crop (9 frames are 0.72 s at 12.5 Hz).
      learning_rate: AdamW peak, reached after `warmup_steps`, then cosine to zero.
      rvq_learning_rate_scale: factor on the quantiser's updates; 0 keeps the k-means codes.
      stft_weight: multi-resolution STFT loss (log-magnitude L1 plus spectral convergence).
      mel_weight: L1 between log-mels of the output and of the recording.
      fidelity_weight: L1 between log-mels of the output and of the codes, so that the vocoder renders what they say
        rather than the median of the recordings they may stand for.
      reconstruction_weight: L1 between the quantiser's log-mel and the recording's.
      commitment_weight: pull of the latents to their codes; the codes are pulled with weight 1 of the same loss.
      checkpoint_every: steps between checkpoints when a work directory is given.
      log_every: steps between progress lines.
    """

    utterances: int = 1500
    kmeans_iterations: int = 12
    steps: int = 600
    batch_size: int = 12
    crop_frames: int = 9
    learning_rate: float = 3e-3
    warmup_steps: int = 20
    weight_decay: float = 0.01
    max_gradient_norm: float = 5.0
    rvq_learning_rate_scale: float = 0.05
    stft_weight: float = 1.0
    mel_weight: float = 0.3
    fidelity_weight: float = 1.5
    reconstruction_weight: float = 1.0
    commitment_weight: float = 0.25
    checkpoint_every: int = 200
    log_every: int = 50
    seed: int = 0

    def __post_init__(self):
        validation.check_types(self)
        validation.require_positive(
            self,
            "utterances",
            "kmeans_iterations",
            "batch_size",
            "crop_frames",
            "learning_rate",
            "max_gradient_norm",
            "checkpoint_every",
            "log_every",
        )
        for field in (
            "steps",
            "warmup_steps",
            "weight_decay",
            "rvq_learning_rate_scale",
            "stft_weight",
            "mel_weight",
            "fidelity_weight",
            "reconstruction_weight",
            "commitment_weight",
            "seed",
        ):
            validation.require(getattr(self, field) >= 0, self, field, "0 or more")
