"""What a training stage of the Thinker is: its corpus, its size, how it is laid out and trained."""

import dataclasses

from data_pipelines.speech_corpus.config import CorpusConfig
from data_pipelines.transcription import TranscriptionConfig
from qomni_jax.config.audio import AudioFeatureConfig
from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.training import ThinkerTrainingConfig
from qomni_jax.config.validation import check_types, require


@dataclasses.dataclass(frozen=True)
class TranscriptionStage:
    """A Thinker that learns to write what it hears in a speech corpus, and when.

    Attributes:
      corpus, train_splits: what it hears; no other split is seen in training.
      transcription: what is asked, and the form of the answer.
      thinker: its vocabulary is trained on the texts of `train_splits`, as many tokens as its language model has.
      sequence, features: how conversations are laid out, and what the audio encoder reads.
      training: see there.
    """

    corpus: CorpusConfig
    thinker: ThinkerConfig
    training: ThinkerTrainingConfig
    transcription: TranscriptionConfig = dataclasses.field(default_factory=TranscriptionConfig)
    sequence: SequenceConfig = dataclasses.field(default_factory=SequenceConfig)
    features: AudioFeatureConfig = dataclasses.field(default_factory=AudioFeatureConfig)
    train_splits: tuple[str, ...] = ("train",)

    def __post_init__(self) -> None:
        check_types(self)
        splits = {split.name for split in self.corpus.splits}
        accepted = f"one or more of {', '.join(sorted(splits))}"
        require(bool(self.train_splits) and set(self.train_splits) <= splits, self, "train_splits", accepted)
        audio = self.thinker.audio
        require(audio is not None, self, "thinker", "one with an audio encoder")
        assert audio is not None
        rates = self.corpus.sample_rate, self.features.sample_rate
        require(rates[0] == rates[1], self, "features", f"sample_rate = {rates[0]} Hz, that of the corpus")
        require(
            audio.num_mels == self.features.num_mels, self, "features", f"num_mels = {audio.num_mels}, of the encoder"
        )
        chunk = audio.chunk_frames
        fits = all(frames % chunk == 0 for frames in self.training.recording_frames)
        require(fits, self, "training", f"recording_frames that are multiples of the encoder's chunks of {chunk}")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What `experiments.train` runs."""

    stage: TranscriptionStage

    def __post_init__(self) -> None:
        check_types(self)
