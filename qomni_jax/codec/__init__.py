"""Speech codecs: our own, a residual vector quantiser on stacked log-mel frames and a causal streaming vocoder, and
those of the released ancestors (`WaveformCodec`)."""

from qomni_jax.codec.codec import Codec
from qomni_jax.codec.griffin_lim import griffin_lim
from qomni_jax.codec.model import CodecModel
from qomni_jax.codec.stream import DecoderStream
from qomni_jax.codec.training import FitResult, fit, fit_quantizer
from qomni_jax.codec.waveform_codec import WaveformCodec
from qomni_jax.codec.waveform_model import WaveformCodecModel

__all__ = [
    "Codec",
    "CodecModel",
    "DecoderStream",
    "FitResult",
    "WaveformCodec",
    "WaveformCodecModel",
    "fit",
    "fit_quantizer",
    "griffin_lim",
]
