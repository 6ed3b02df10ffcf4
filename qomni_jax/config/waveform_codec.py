"""Configuration of the codecs of the released ancestors: codes of a frame to samples, and in Mimi back.

One set of parts serves Qwen3-Omni's Code2Wav, the decoder of the Qwen3-TTS 12 Hz tokenizer and Mimi; what they differ
in is a field here.
"""

import dataclasses
import math

from qomni_jax.config.validation import DTYPES, check_types, require, require_one_of, require_positive


@dataclasses.dataclass(frozen=True)
class CodeEmbeddingConfig:
    """Codes as rows of a table, averaged over the codebooks (Code2Wav); nothing turns features back into codes.

    Attributes:
      num_codebooks: codes a frame.
      codebook_size: rows a codebook.
      model_dim: features of a row.
    """

    num_codebooks: int
    codebook_size: int
    model_dim: int

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "num_codebooks", "codebook_size", "model_dim")


@dataclasses.dataclass(frozen=True)
class SplitRVQConfig:
    """Two residual quantisers side by side, semantic and acoustic, whose outputs are added (Mimi, Qwen3-TTS).

    Attributes:
      num_codebooks: codes a frame, the semantic ones first.
      num_semantic: of them, levels of the semantic quantiser.
      codebook_size: entries a level.
      codebook_dim: features of an entry.
      model_dim: features before and after a quantiser's projections.
    """

    num_codebooks: int
    codebook_size: int
    codebook_dim: int
    model_dim: int
    num_semantic: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "num_codebooks", "codebook_size", "codebook_dim", "model_dim", "num_semantic")
        require(
            self.num_semantic < self.num_codebooks, self, "num_semantic", f"below num_codebooks = {self.num_codebooks}"
        )


@dataclasses.dataclass(frozen=True)
class WindowTransformerConfig:
    """Causal transformer whose frames see a window of the past; every branch is scaled channel by channel.

    Attributes:
      model_dim: width of the residual stream.
      num_layers, num_heads, num_kv_heads, head_dim: of the attention.
      mlp_dim: hidden width of a layer's MLP.
      window: frames that a frame sees, itself among them.
      outer_dim: width before and after, with projections to and from `model_dim`; None: `model_dim`, no projections.
      rope_theta: base of the rotary wavelengths.
      norm: `rms`, or `layer` with a bias.
      norm_eps: of every norm.
      final_norm: a norm after the last layer.
      mlp: `swiglu`, or `gelu` (exact, two matrices); neither has a bias.
      backend: `auto`, or a form of `ops.attention`.
    """

    model_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    window: int
    outer_dim: int | None = None
    rope_theta: float = 10_000.0
    norm: str = "rms"
    norm_eps: float = 1e-5
    final_norm: bool = True
    mlp: str = "swiglu"
    backend: str = "auto"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "model_dim", "num_layers", "num_heads", "num_kv_heads", "head_dim", "mlp_dim", "window")
        require_positive(self, "rope_theta", "norm_eps", *(() if self.outer_dim is None else ("outer_dim",)))
        require(self.head_dim % 2 == 0, self, "head_dim", "an even number")
        require(
            self.num_heads % self.num_kv_heads == 0,
            self,
            "num_heads",
            f"a multiple of num_kv_heads = {self.num_kv_heads}",
        )
        require_one_of(self, "norm", ("rms", "layer"))
        require_one_of(self, "mlp", ("swiglu", "gelu"))
        require_one_of(self, "backend", ("auto", "reference", "xla", "pallas_tpu"))

    @property
    def width(self) -> int:
        """Features before and after."""
        return self.model_dim if self.outer_dim is None else self.outer_dim


@dataclasses.dataclass(frozen=True)
class ConvStackConfig:
    """Convolutions between frames and samples (SEANet): channels double at every resampling towards the frames.

    Attributes:
      channels: at the sample rate.
      rates: of the resamplings, as a decoder has them, from frames to samples; kernels are twice as long.
      kernel_size, last_kernel_size: of the first and of the last convolution, in a decoder and in an encoder.
      residual_kernel_size, dilations: of the residual units at every rate.
      compress: channels of a residual unit's inside are so many times fewer.
      activation: `snake_beta` or `elu`.
    """

    channels: int
    rates: tuple[int, ...]
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 7
    dilations: tuple[int, ...] = (1, 3, 9)
    compress: int = 1
    activation: str = "snake_beta"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "channels", "kernel_size", "last_kernel_size", "residual_kernel_size", "compress")
        for field in ("rates", "dilations"):
            numbers = getattr(self, field)
            require(bool(numbers) and min(numbers) > 0, self, field, "one or more numbers greater than 0")
        require(self.channels % self.compress == 0, self, "channels", f"a multiple of compress = {self.compress}")
        require_one_of(self, "activation", ("snake_beta", "elu"))

    @property
    def frame_channels(self) -> int:
        """Channels at the frames' end."""
        return self.channels * 2 ** len(self.rates)


@dataclasses.dataclass(frozen=True)
class WaveformDecoderConfig:
    """Features of a frame to samples.

    Attributes:
      pre_conv: frames that a causal convolution before the transformer sees, to the transformer's outer width; 0: none.
      pre_upsampling: a transposed convolution, channel by channel, makes so many steps of a frame before the
        transformer (Mimi: 2); 1: none.
      transformer: causal, over frames.
      upsampling_ratios: a transposed convolution and a ConvNeXt block each, after the transformer.
      stack: to samples.
      trim: a transposed convolution over T steps gives `(T + 1) * rate`; cut off is the last rate (`right`), or, in the
        stack, the first one as well (`both`, Code2Wav): the stream is then `delay` samples late and as much shorter.
      clip: samples are cut off at -1 and 1.
    """

    transformer: WindowTransformerConfig
    stack: ConvStackConfig
    pre_conv: int = 0
    pre_upsampling: int = 1
    upsampling_ratios: tuple[int, ...] = ()
    trim: str = "right"
    clip: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        require(self.pre_conv >= 0, self, "pre_conv", "0 or more frames")
        require_positive(self, "pre_upsampling")
        require(all(ratio > 0 for ratio in self.upsampling_ratios), self, "upsampling_ratios", "numbers greater than 0")
        require_one_of(self, "trim", ("right", "both"))

    @property
    def samples_per_frame(self) -> int:
        """Samples that a frame adds."""
        return self.pre_upsampling * math.prod(self.upsampling_ratios) * math.prod(self.stack.rates)

    @property
    def stack_delays(self) -> tuple[int, ...]:
        """Steps by which the stream is late after every resampling of the stack."""
        delays, delay = [], 0
        for rate in self.stack.rates:
            delay = delay * rate + (rate if self.trim == "both" else 0)
            delays.append(delay)
        return tuple(delays)

    @property
    def delay(self) -> int:
        """Samples by which the stream is late: those of T frames are `T * samples_per_frame - delay`."""
        return self.stack_delays[-1]


@dataclasses.dataclass(frozen=True)
class WaveformEncoderConfig:
    """Samples to features of a frame, causal.

    Attributes:
      stack: from samples.
      transformer: over the steps that the stack gives.
      downsampling: steps a frame; a convolution twice as long, whose padding repeats the first and the last step.
    """

    stack: ConvStackConfig
    transformer: WindowTransformerConfig
    downsampling: int = 2

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "downsampling")

    @property
    def samples_per_frame(self) -> int:
        """Samples of a frame."""
        return self.downsampling * math.prod(self.stack.rates)


@dataclasses.dataclass(frozen=True)
class WaveformCodecConfig:
    """A codec: what codes stand for, how they become samples, and, or not, how samples become codes.

    Attributes:
      quantizer: codes to features and, a `SplitRVQConfig`, back.
      decoder, encoder: features to samples and back; an encoder needs a `SplitRVQConfig`.
      sample_rate: Hz.
      dtype: of activations, `float32`, `bfloat16` or `float64`; parameters keep their own.
    """

    quantizer: CodeEmbeddingConfig | SplitRVQConfig
    decoder: WaveformDecoderConfig
    encoder: WaveformEncoderConfig | None = None
    sample_rate: int = 24_000
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "sample_rate")
        require_one_of(self, "dtype", DTYPES)
        inner, outer = self.quantizer.model_dim, self.decoder.transformer.width
        if not self.decoder.pre_conv and inner != outer:
            raise ValueError(
                f"WaveformCodecConfig.quantizer.model_dim = {inner}: accepted without pre_conv is the transformer's "
                f"width = {outer}"
            )
        if self.encoder is None:
            return
        require(isinstance(self.quantizer, SplitRVQConfig), self, "quantizer", "a SplitRVQConfig with an encoder")
        theirs, ours = self.encoder.samples_per_frame, self.samples_per_frame
        if theirs != ours:
            raise ValueError(
                f"WaveformCodecConfig.encoder.samples_per_frame = {theirs}: accepted is the decoder's, {ours}"
            )
        if self.encoder.transformer.width != inner:
            raise ValueError(
                f"WaveformCodecConfig.encoder.transformer width = {self.encoder.transformer.width}: accepted is "
                f"quantizer.model_dim = {inner}"
            )

    @property
    def samples_per_frame(self) -> int:
        """Samples that a frame of codes adds."""
        return self.decoder.samples_per_frame

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.samples_per_frame
