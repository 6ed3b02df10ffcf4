"""Configuration of the Talker and of the ways in which text and speech share its stream."""

import dataclasses

from qomni_jax.config.decoder import DecoderConfig
from qomni_jax.config.validation import DTYPES, check_types, require, require_one_of, require_positive

SCHEMES = ("aria", "dual_track", "fixed_rate")
ARIA_PATHS = ("tight", "random_lead", "bursts", "text_first", "expected", "word_times")
TEXT_PACES = ("steady", "expected")


@dataclasses.dataclass(frozen=True)
class TalkerConfig:
    """The Talker: vocabulary of text, codebooks of speech, backbone and the residual multi-token-prediction module.

    `residual` is the dense decoder that predicts codebooks 1.. of a frame; its width equals the backbone's.
    `max_positions` bounds the stream (prompt, text and frames together) of one utterance in generation. `dtype` is that
    of activations; parameters keep their own.
    """

    decoder: DecoderConfig
    residual: DecoderConfig
    text_vocab_size: int = 384
    num_codebooks: int = 4
    codebook_size: int = 256
    max_positions: int = 384
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "text_vocab_size", "codebook_size", "max_positions")
        require(self.num_codebooks >= 1, self, "num_codebooks", "1 or more")
        require_one_of(self, "dtype", DTYPES)
        require(
            self.residual.model_dim == self.decoder.model_dim,
            self,
            "residual",
            f"a decoder of model_dim {self.decoder.model_dim}, that of `decoder`",
        )


@dataclasses.dataclass(frozen=True)
class InterleaverConfig:
    """How text and speech share the stream.

    Attributes:
      scheme: `aria`, `dual_track` or `fixed_rate`.
      aria_paths: path policies, one drawn per item in training. `tight` speaks as soon as the rule allows,
        `random_lead` is tight with a random lead in `min_lead..max_lead`, `bursts` lets text arrive in random bursts
        of up to `max_burst`, `text_first` puts all text first, `expected` gives each token `min_lead - 1` tokens
        before it is expected to be spoken, by mean token durations, if the rule does not ask for it sooner;
        `word_times` follows the true word times (an oracle for comparison: it is not ARIA and the rule does not bind
        it).
      min_lead, max_lead: text tokens that stand before the rule starts to count, at least 1.
      inference_lead: text tokens given before the Talker decides for itself.
      rate_margin: factor on the estimated frames per text token that bounds speech until the text ends.
      text_delay: dual track: extra text tokens given before the first frame.
      text_pace: dual track: `steady`, a token every `text_stretch` frames, or `expected`, each token `text_delay`
        tokens before it is expected to be spoken.
      text_stretch: dual track at a steady pace: frames from one text token to the next.
      text_block, speech_block: fixed rate: text tokens and frames of one block.
    """

    scheme: str = "aria"
    aria_paths: tuple[str, ...] = ("random_lead",)
    min_lead: int = 2
    max_lead: int = 4
    inference_lead: int = 2
    max_burst: int = 6
    rate_margin: float = 1.25
    text_delay: int = 0
    text_pace: str = "steady"
    text_stretch: int = 1
    text_block: int = 1
    speech_block: int = 3

    def __post_init__(self) -> None:
        check_types(self)
        require_one_of(self, "scheme", SCHEMES)
        require(
            len(self.aria_paths) > 0 and set(self.aria_paths) <= set(ARIA_PATHS),
            self,
            "aria_paths",
            "a non-empty sequence of " + ", ".join(ARIA_PATHS),
        )
        require_positive(self, "min_lead", "inference_lead", "max_burst", "rate_margin")
        require(self.max_lead >= self.min_lead, self, "max_lead", f"{self.min_lead} (min_lead) or more")
        require_one_of(self, "text_pace", TEXT_PACES)
        require_positive(self, "text_stretch", "text_block", "speech_block")
        require(self.text_delay >= 0, self, "text_delay", "0 or more")
