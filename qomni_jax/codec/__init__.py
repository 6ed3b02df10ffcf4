"""Speech codec: residual vector quantiser on stacked log-mel frames and a causal streaming vocoder."""

from qomni_jax.codec.codec import Codec
from qomni_jax.codec.griffin_lim import griffin_lim
from qomni_jax.codec.model import CodecModel
from qomni_jax.codec.stream import DecoderStream
from qomni_jax.codec.training import FitResult, fit, fit_quantizer

__all__ = ["Codec", "CodecModel", "DecoderStream", "FitResult", "fit", "fit_quantizer", "griffin_lim"]
