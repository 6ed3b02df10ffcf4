"""Configuration of Qwen3-Omni's Talker, and of the tokens that its prompt is made of."""

import dataclasses

from qomni_jax.config.decoder import DecoderConfig
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.config.validation import DTYPES, check_types, require, require_one_of, require_positive

# Ids at the end of the Talker's vocabulary that are no codes: of these, speech has the end token alone.
NUM_SUPPRESSED = 1024

# How the release draws, codebook 0 and the others; the penalty looks at codebook 0 of the frames that were said.
RELEASED_SAMPLING = SamplingConfig(temperature=0.9, top_k=50, repetition_penalty=1.05)
RELEASED_RESIDUAL_SAMPLING = SamplingConfig(temperature=1.0, top_k=50, top_p=0.8)


@dataclasses.dataclass(frozen=True)
class CodecTokens:
    """Ids of the Talker's vocabulary that are no codes.

    Attributes:
      pad, bos, eos: no code, the start and the end of speech.
      nothink, think_bos, think_eos: an empty thought, which stands before speech.
      speakers: (name, id) of the voices, names in small letters.
    """

    pad: int
    bos: int
    eos: int
    nothink: int
    think_bos: int
    think_eos: int
    speakers: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        check_types(self)

    def speaker(self, name: str) -> int:
        """The id of a voice, by its name in letters of any case. Raises ValueError for one that is not there."""
        names = dict(self.speakers)
        if name.lower() not in names:
            raise ValueError(f"voice {name!r}: accepted is one of {', '.join(names)}")
        return names[name.lower()]


@dataclasses.dataclass(frozen=True)
class SpeechTokens:
    """Ids of the Thinker's vocabulary that the Talker's prompt is found by or made of."""

    im_start: int
    user: int
    assistant: int
    tts_pad: int
    tts_bos: int
    tts_eos: int

    def __post_init__(self) -> None:
        check_types(self)


@dataclasses.dataclass(frozen=True)
class Qwen3OmniTalkerConfig:
    """The released Talker and its code predictor.

    Attributes:
      decoder: predicts codebook 0.
      predictor: the dense decoder over the codebooks of one frame; as wide as `decoder`.
      tokens: ids that are no codes.
      thinker_dim: width of the Thinker, whose embeddings and hidden states the Talker reads.
      projection_dim: inner width of the two projections from there.
      vocab_size: codes of codebook 0 and `NUM_SUPPRESSED` further ids.
      num_codebooks, codebook_size: of a frame.
      accept_layer: the Talker reads the output of this layer of the Thinker, counted from 1, where media stand.
      dtype: of activations; parameters keep their own.
    """

    decoder: DecoderConfig
    predictor: DecoderConfig
    tokens: CodecTokens
    thinker_dim: int = 2048
    projection_dim: int = 2048
    vocab_size: int = 3072
    num_codebooks: int = 16
    codebook_size: int = 2048
    accept_layer: int = 24
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "thinker_dim", "projection_dim", "codebook_size", "accept_layer")
        require_one_of(self, "dtype", DTYPES)
        require(self.num_codebooks >= 2, self, "num_codebooks", "2 or more")
        require(
            0 < self.num_codes <= self.codebook_size,
            self,
            "vocab_size",
            f"{NUM_SUPPRESSED + 1} to {NUM_SUPPRESSED + self.codebook_size} (codebook_size and the suppressed ids)",
        )
        require(
            self.predictor.model_dim == self.decoder.model_dim,
            self,
            "predictor",
            f"a decoder of model_dim {self.decoder.model_dim}, that of `decoder`",
        )
        special = [value for name, value in vars(self.tokens).items() if name != "speakers"]
        special += [number for _, number in self.tokens.speakers]
        require(
            all(0 <= number < self.vocab_size for number in special),
            self,
            "tokens",
            f"ids in 0..{self.vocab_size - 1} (vocab_size)",
        )

    @property
    def num_codes(self) -> int:
        """Ids of the vocabulary that are codes of codebook 0."""
        return self.vocab_size - NUM_SUPPRESSED
