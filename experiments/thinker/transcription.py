"""The transcription stage: a speech corpus, a tokenizer made from its texts, and a Thinker that learns to hear."""

import itertools
from pathlib import Path

import numpy as np

from data_pipelines.speech_corpus.builder import Corpus, build_corpus
from data_pipelines.transcription import TranscriptionReader, spoken, write_answer
from experiments.thinker.config import TranscriptionStage
from experiments.thinker.data import ConversationSource
from experiments.thinker.stage import Report, Start, run_stage
from qomni_jax.sequence.chat import ROLES
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.thinker.storage import StoredThinker


def run(stage: TranscriptionStage, workdir: Path, report: Report) -> Path:
    """Trains, or goes on training, and returns the directory of the model; errors as those of `run_stage`."""

    def prepare() -> tuple[Start, ConversationSource]:
        corpus = build_corpus(stage.corpus, workdir / "corpus")
        tokenizer = make_tokenizer(stage, corpus, workdir / "tokenizer.json")
        stored = StoredThinker(stage.thinker, stage.sequence, stage.features, stage.image)
        return Start(stored, tokenizer), speech_source(stage, corpus, tokenizer)

    return run_stage(stage, stage.training, workdir, report, prepare)


def make_tokenizer(stage: TranscriptionStage, corpus: Corpus, path: Path) -> ChatTokenizer:
    """The tokenizer of the conversations in the training splits and of `more_texts`, made once and kept at `path`."""
    if not path.exists():
        records = itertools.chain.from_iterable(corpus.split(split) for split in stage.train_splits)
        asked = "".join(f"{role}\n" for role in ROLES) + stage.transcription.request
        texts = (f"{asked}\n{write_answer(spoken(record), stage.transcription)}" for record in records)
        ChatTokenizer.train(itertools.chain(texts, stage.more_texts), stage.thinker.language_model.vocab_size).save(
            path
        )
    return ChatTokenizer.load(path)


def speech_source(stage: TranscriptionStage, corpus: Corpus, tokenizer: ChatTokenizer) -> ConversationSource:
    """The training splits as conversations."""
    assert stage.thinker.audio is not None
    reader = TranscriptionReader(tokenizer, stage.features, stage.thinker.audio, stage.sequence, stage.transcription)
    records = [record for split in stage.train_splits for record in corpus.split(split)]
    longest = max(stage.training.recording_frames)
    return ConversationSource(
        records,
        np.array([min(stage.features.num_frames(len(record["audio"])), longest) for record in records]),
        reader.example,
        max(len(reader.transcript(record)) for record in records),
    )
