"""What the voice stage is: its corpus, its codec, its Talker, and the prompts that it is trained with."""

import dataclasses

from data_pipelines.speech_corpus.config import CorpusConfig
from qomni_jax.config.codec import CodecConfig, CodecTrainingConfig
from qomni_jax.config.talker import InterleaverConfig, TalkerConfig
from qomni_jax.config.training import TalkerTrainingConfig
from qomni_jax.config.validation import check_types, require, require_positive
from qomni_jax.talker.style import OPPOSITES


@dataclasses.dataclass(frozen=True)
class VoicePromptConfig:
    """The prompts of training: which of them have a reference and a description, and what these hold.

    Attributes:
      reference_share, description_share: of the prompts, independently; a few have neither.
      rate, pitch, level: below the first number speech may be described as slow, low, soft; above the second as fast,
        high, loud (words a minute, 0 to 99, dB of full scale; those of the corpus).
      candidates: a reference is drawn from so many utterances of the same voice, those nearest to the target in what is
        not described.
      min_seconds, max_seconds: of a reference; it is of one utterance, or of more where that is shorter.
      max_steps: of a prompt.
    """

    reference_share: float = 0.75
    description_share: float = 0.6
    rate: tuple[int, int] = (150, 220)
    pitch: tuple[int, int] = (40, 60)
    level: tuple[int, int] = (-26, -22)
    candidates: int = 6
    min_seconds: float = 2.4
    max_seconds: float = 5.0
    max_steps: int = 112

    def __post_init__(self) -> None:
        check_types(self)
        for field in ("reference_share", "description_share"):
            require(0 <= getattr(self, field) <= 1, self, field, "a number in 0..1")
        for field in OPPOSITES:
            low, high = getattr(self, field)
            require(low <= high, self, field, "two numbers, the second no less than the first")
        require_positive(self, "candidates", "min_seconds", "max_steps")
        require(self.max_seconds >= self.min_seconds, self, "max_seconds", f"{self.min_seconds} (min_seconds) or more")

    def words(self, style: tuple[float, ...]) -> tuple[str, ...]:
        """All that may be said of a rate, a pitch and a level."""
        found = []
        for (attribute, (less, more)), value in zip(OPPOSITES.items(), style, strict=True):
            low, high = getattr(self, attribute)
            found += [less] * (value < low) + [more] * (value > high)
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class VoiceStage:
    """A Talker that learns to speak in the voice of its prompt.

    Attributes:
      corpus: of many voices, with levels; the codec and the Talker see its split `train` alone.
      codec, codec_training: the codec that is fitted on it.
      talker: its size; text vocabulary and codebooks are those of the tokenizer and the codec.
      vocab_size: of the text BPE.
      max_text: text tokens of the longest utterance that it will be asked for.
    """

    corpus: CorpusConfig
    codec: CodecConfig
    codec_training: CodecTrainingConfig
    talker: TalkerConfig
    training: TalkerTrainingConfig
    interleaver: InterleaverConfig = dataclasses.field(default_factory=InterleaverConfig)
    prompts: VoicePromptConfig = dataclasses.field(default_factory=VoicePromptConfig)
    vocab_size: int = 400
    max_text: int = 64

    def __post_init__(self) -> None:
        check_types(self)
        require(self.corpus.has_levels, self, "corpus", "one with levels (SplitConfig.min_level and max_level)")
        require(any(s.name == "train" for s in self.corpus.splits), self, "corpus", "one with a split train")
        require_positive(self, "vocab_size", "max_text")
        room = self.prompts.max_steps + self.max_text
        require(self.talker.max_positions > room, self, "talker", f"max_positions of more than {room}, prompt and text")
