"""What a study is: its materials, its arms, how they are trained and judged."""

import dataclasses

from data_pipelines.speech_corpus.config import CorpusConfig
from qomni_jax.config.codec import CodecConfig, CodecTrainingConfig
from qomni_jax.config.talker import InterleaverConfig, TalkerConfig
from qomni_jax.config.training import TalkerTrainingConfig
from qomni_jax.config.validation import check_types, require, require_positive

SETS = ("short", "long", "fast", "slow", "voice")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way of interleaving under test; everything that is not named here is the same for every arm.

    `vocab_size` (of the text BPE), `train_splits` and `seeds` take the study's own value when left empty.
    """

    name: str
    label: str
    interleaver: InterleaverConfig
    vocab_size: int | None = None
    train_splits: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_types(self)
        require(len(set(self.seeds)) == len(self.seeds), self, "seeds", "seeds of which no two are alike")
        require(
            bool(self.name) and all(c.isalnum() or c in "_." for c in self.name),
            self,
            "name",
            "letters, digits, _ and .",
        )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How speech is drawn and judged.

    `sets` are judged at the end with every decoding, `curve_sets` (first `curve_sentences` sentences, greedy) at each
    of `curve_steps`. `players` sentences of each of `player_sets` are kept as audio for the report.
    """

    sets: tuple[str, ...] = ("short", "long", "fast", "slow")
    temperature: float = 0.7
    top_k: int = 20
    max_frames: int = 256
    max_text: int = 96
    curve_sets: tuple[str, ...] = ("short", "long")
    curve_sentences: int = 20
    curve_steps: tuple[int, ...] = ()
    player_sets: tuple[str, ...] = ("short", "long")
    players: int = 2

    def __post_init__(self) -> None:
        check_types(self)
        for field in ("sets", "curve_sets", "player_sets"):
            require(set(getattr(self, field)) <= set(SETS), self, field, "some of " + ", ".join(SETS))
        require("short" in self.sets and "long" in self.sets, self, "sets", "a choice that has short and long in it")
        require_positive(self, "temperature", "max_frames", "max_text", "curve_sentences")
        require(self.players >= 0, self, "players", "0 or more")


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """A whole study. The gates stop it before any Talker is trained when judge or codec are not good enough.

    Attributes:
      max_clean_wer, max_resynthesis_wer, min_stoi: gates on the judge's error on clean recordings, on its error after
        the codec, and on the codec's intelligibility; fractions, on the short set.
      workers: Talkers trained at the same time, each in a process of its own (1 on an accelerator).
    """

    corpus: CorpusConfig
    codec: CodecConfig
    codec_training: CodecTrainingConfig
    talker: TalkerConfig
    training: TalkerTrainingConfig
    arms: tuple[Arm, ...]
    evaluation: EvaluationConfig = EvaluationConfig()
    title: str = "ARIA against dual-track and fixed-rate interleaving"
    seeds: tuple[int, ...] = (0,)
    vocab_size: int = 384
    train_splits: tuple[str, ...] = ("train",)
    max_clean_wer: float = 0.03
    max_resynthesis_wer: float = 0.04
    min_stoi: float = 0.80
    workers: int = 2

    def __post_init__(self) -> None:
        check_types(self)
        names = [arm.name for arm in self.arms]
        require(bool(names) and len(set(names)) == len(names), self, "arms", "one arm or more, each with its own name")
        require(
            bool(self.seeds) and len(set(self.seeds)) == len(self.seeds),
            self,
            "seeds",
            "one seed or more, no two alike",
        )
        require_positive(self, "workers", "vocab_size")
        codec = self.codec.rvq
        require(
            (self.talker.num_codebooks, self.talker.codebook_size) == (codec.num_codebooks, codec.codebook_size),
            self,
            "talker",
            f"num_codebooks = {codec.num_codebooks} and codebook_size = {codec.codebook_size}, those of the codec",
        )
        available = {split.name for split in self.corpus.splits}
        wanted = {f"test_{name}" for name in (*self.evaluation.sets, *self.evaluation.curve_sets)}
        wanted |= {split for arm in self.arms for split in arm.train_splits} | set(self.train_splits)
        require(wanted <= available, self, "corpus", f"splits that have {', '.join(sorted(wanted))} among them")
        steps = self.evaluation.curve_steps
        every, first = self.training.checkpoint_every, self.training.log_every
        require(
            all(
                step == self.training.steps or (first <= step < self.training.steps and step % every == 0)
                for step in steps
            ),
            self,
            "evaluation",
            f"curve_steps that are multiples of checkpoint_every = {every} from log_every = {first} to "
            f"{self.training.steps}",
        )

    def runs(self) -> list[tuple[Arm, int]]:
        """Every training run as (arm, seed), seed by seed, so that an unfinished study has whole seeds first."""
        wanted = [(arm, arm.seeds or self.seeds) for arm in self.arms]
        every = sorted({seed for _, seeds in wanted for seed in seeds})
        return [(arm, seed) for seed in every for arm, seeds in wanted if seed in seeds]
