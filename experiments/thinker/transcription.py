"""The transcription stage: corpus, tokenizer, training, and the model that comes of it."""

from collections.abc import Callable
import dataclasses
import itertools
from pathlib import Path

import numpy as np

from data_pipelines.speech_corpus.builder import Corpus, build_corpus
from data_pipelines.transcription import TranscriptionReader, spoken, write_answer
from experiments.thinker.config import TranscriptionStage
from experiments.thinker.data import ConversationSource, ThinkerData
from qomni_jax.config.vision import ImageConfig
from qomni_jax.sequence.chat import ROLES
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.special_tokens import PADDING
from qomni_jax.thinker.storage import StoredThinker, save_thinker
from qomni_jax.training.checkpoint import Checkpoints
from qomni_jax.training.loop import train
from qomni_jax.training.thinker_step import init_thinker_state, make_thinker_step

Report = Callable[[str], None]


def run(stage: TranscriptionStage, workdir: Path, report: Report) -> Path:
    """Trains, or goes on training, and returns the directory of the model. Raises ValueError and OSError with one line
    that says what is wrong."""
    model = workdir / "model"
    checkpoints = Checkpoints(workdir, dataclasses.asdict(stage))
    if model.exists():
        report(f"{model} is there already")
        return model
    corpus = build_corpus(stage.corpus, workdir / "corpus")
    tokenizer = make_tokenizer(stage, corpus, workdir / "tokenizer.json")
    data = ThinkerData(
        speech_source(stage, corpus, tokenizer), stage.thinker, stage.training, tokenizer.special(PADDING)
    )
    state = train(
        init_thinker_state(stage.thinker, stage.training),
        make_thinker_step(stage.thinker, stage.training),
        data.loader,
        steps=stage.training.steps,
        checkpoints=checkpoints,
        log_every=stage.training.log_every,
        checkpoint_every=stage.training.checkpoint_every,
        name="thinker",
        report=report,
    )
    checkpoints.close()
    stored = StoredThinker(stage.thinker, stage.sequence, stage.features, ImageConfig())
    save_thinker(model, stored, state.params["thinker"], tokenizer)
    return model


def make_tokenizer(stage: TranscriptionStage, corpus: Corpus, path: Path) -> ChatTokenizer:
    """The tokenizer of the answers in the training splits, made once and kept at `path`."""
    if not path.exists():
        records = itertools.chain.from_iterable(corpus.split(split) for split in stage.train_splits)
        asked = "".join(f"{role}\n" for role in ROLES) + stage.transcription.request
        texts = (f"{asked}\n{write_answer(spoken(record), stage.transcription)}" for record in records)
        ChatTokenizer.train(texts, stage.thinker.language_model.vocab_size).save(path)
    return ChatTokenizer.load(path)


def speech_source(stage: TranscriptionStage, corpus: Corpus, tokenizer: ChatTokenizer) -> ConversationSource:
    """The training splits as conversations."""
    assert stage.thinker.audio is not None
    reader = TranscriptionReader(tokenizer, stage.features, stage.thinker.audio, stage.sequence, stage.transcription)
    records = [record for split in stage.train_splits for record in corpus.split(split)]
    return ConversationSource(
        records,
        np.array([stage.features.num_frames(len(record["audio"])) for record in records]),
        lambda record, rng, frames: reader.example(record, rng, frames=frames, placed_rate=stage.training.placed_rate),
        max(len(reader.transcript(record)) for record in records),
    )
