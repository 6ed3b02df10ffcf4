"""What a training stage of the Thinker is: its data, its size, how they are laid out, and how it is trained."""

from collections.abc import Iterable
import dataclasses
from typing import Any

from data_pipelines.rendered_media.config import RenderedMediaConfig
from data_pipelines.speech_corpus.config import CorpusConfig
from data_pipelines.transcription import TranscriptionConfig
from experiments.voice.config import VoiceStage
from qomni_jax.config.audio import AudioFeatureConfig
from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.training import ThinkerTrainingConfig, VisionTrainingConfig
from qomni_jax.config.validation import check_types, require
from qomni_jax.config.vision import ImageConfig


@dataclasses.dataclass(frozen=True)
class TranscriptionStage:
    """A Thinker that learns to write what it hears in a speech corpus, and when.

    Attributes:
      corpus, train_splits: what it hears; no other split is seen in training.
      transcription: what is asked, and the form of the answer.
      thinker: its vocabulary is trained on the texts of `train_splits`, as many tokens as its language model has.
      sequence, features, image: how conversations are laid out, and what the encoders read.
      training: see there.
      more_texts: of which the vocabulary is made as well: words of later stages.
    """

    corpus: CorpusConfig
    thinker: ThinkerConfig
    training: ThinkerTrainingConfig
    transcription: TranscriptionConfig = dataclasses.field(default_factory=TranscriptionConfig)
    sequence: SequenceConfig = dataclasses.field(default_factory=SequenceConfig)
    features: AudioFeatureConfig = dataclasses.field(default_factory=AudioFeatureConfig)
    image: ImageConfig = dataclasses.field(default_factory=ImageConfig)
    train_splits: tuple[str, ...] = ("train",)
    more_texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_types(self)
        _check_splits(self, self.corpus.splits)
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
class SeeingStage:
    """A Thinker's vision encoder alone learns from pictures with captions, as encoders do before a decoder reads them.

    Attributes:
      start_from: the directory of the Thinker whose vision encoder it is; the rest of it stays as it is.
      media, train_splits: the pictures, and the frames of the clips; no other split is seen in training.
      training: see there.
    """

    start_from: str
    media: RenderedMediaConfig
    training: VisionTrainingConfig
    train_splits: tuple[str, ...] = ("train",)

    def __post_init__(self) -> None:
        check_types(self)
        _check_splits(self, self.media.splits)


@dataclasses.dataclass(frozen=True)
class MediaStage:
    """A Thinker that hears learns to answer questions about rendered pictures and clips with speech.

    Attributes:
      start_from: the directory of the Thinker that it goes on from, whose vocabulary and layout it keeps.
      media, train_splits: what it sees and hears; no other split is seen in training.
      training: see there; of `recording_frames` one length, which holds every clip.
    """

    start_from: str
    media: RenderedMediaConfig
    training: ThinkerTrainingConfig
    train_splits: tuple[str, ...] = ("train",)

    def __post_init__(self) -> None:
        check_types(self)
        _check_splits(self, self.media.splits)
        require(len(self.training.recording_frames) == 1, self, "training", "recording_frames of one length")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What `experiments.train` runs."""

    stage: TranscriptionStage | SeeingStage | MediaStage | VoiceStage

    def __post_init__(self) -> None:
        check_types(self)


def _check_splits(stage: TranscriptionStage | SeeingStage | MediaStage, splits: Iterable[Any]) -> None:
    names = {split.name for split in splits}
    accepted = f"one or more of {', '.join(sorted(names))}"
    require(bool(stage.train_splits) and set(stage.train_splits) <= names, stage, "train_splits", accepted)
