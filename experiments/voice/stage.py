"""The voice stage: a corpus of many voices, a codec and a tokenizer made from it, and a Talker that learns to clone."""

from collections.abc import Callable, Sequence
import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from data_pipelines.speech_codes.codes import Codes
from data_pipelines.speech_corpus.builder import build_corpus
from experiments.corpus_codec import corpus_codes, fitted_codec
from experiments.talker_batches import TalkerBatches, frame_rates, token_durations
from experiments.voice.config import VoiceStage
from experiments.voice.examples import VoiceExamples
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.talker.schemes import make_interleaver
from qomni_jax.talker.storage import SpeechConfig, StoredTalker, save_talker
from qomni_jax.talker.style import STYLE_WORDS, describe_style
from qomni_jax.talker.voice_prompt import VOICE_TOKENS
from qomni_jax.training.checkpoint import Checkpoints
from qomni_jax.training.loop import train
from qomni_jax.training.talker_step import init_talker_state, make_talker_step

Report = Callable[[str], None]


def run(stage: VoiceStage, workdir: Path, report: Report) -> Path:
    """Trains, or goes on training, and returns the directory of the model.

    Raises ValueError and OSError with one line that says what is wrong.
    """
    model = workdir / "model"
    checkpoints = Checkpoints(workdir, dataclasses.asdict(stage))
    if model.exists():
        report(f"{model} is there already")
        return model
    corpus = build_corpus(stage.corpus, workdir / "corpus")
    codec = fitted_codec(corpus, stage.codec, stage.codec_training, workdir, report)
    codes = corpus_codes(corpus, codec, workdir)
    records = list(codes.split("train"))
    tokenizer = make_tokenizer(stage, codes, workdir / "tokenizer.json")
    speech = speech_config(stage, records, tokenizer)
    quantizer = stage.codec.rvq
    talker = dataclasses.replace(
        stage.talker,
        text_vocab_size=tokenizer.vocab_size,
        num_codebooks=quantizer.num_codebooks,
        codebook_size=quantizer.codebook_size,
    )
    durations = np.asarray(speech.durations, np.float32)
    examples = VoiceExamples(records, tokenizer, durations, stage.prompts, stage.codec.frame_rate)
    interleaver = make_interleaver(stage.interleaver)
    batches = TalkerBatches(
        examples.utterances, examples.draw, stage.prompts.max_steps, interleaver, talker, stage.training
    )
    state = train(
        init_talker_state(talker, stage.training, jnp.asarray(codec.params["rvq"]["codebooks"])),
        make_talker_step(talker, stage.training),
        batches.loader,
        steps=stage.training.steps,
        checkpoints=checkpoints,
        log_every=stage.training.log_every,
        checkpoint_every=stage.training.checkpoint_every,
        name="talker",
        report=report,
    )
    checkpoints.close()
    save_talker(model, StoredTalker(talker, stage.interleaver, speech, state.params, tokenizer, codec))
    return model


def make_tokenizer(stage: VoiceStage, codes: Codes, path: Path) -> TextTokenizer:
    """The tokenizer of the training texts and of descriptions, made once and kept at `path`."""
    if not path.exists():
        texts = [record["text"] for record in codes.split("train")]
        descriptions = [describe_style(STYLE_WORDS)] * max(1, len(texts) // 20)  # about as often as a word
        TextTokenizer.train([*texts, *descriptions], stage.vocab_size, VOICE_TOKENS).save(path)
    return TextTokenizer.load(path)


def speech_config(stage: VoiceStage, records: Sequence[dict[str, Any]], tokenizer: TextTokenizer) -> SpeechConfig:
    """What is expected of the lengths of speech, from the training utterances."""
    durations = token_durations(records, tokenizer, frame_rates(records, tokenizer))
    slow, fast = stage.prompts.rate
    rates: dict[str, list[float]] = {"slow": [], "usual": [], "fast": []}
    for record in records:
        name = "slow" if record["rate_wpm"] < slow else "fast" if record["rate_wpm"] > fast else "usual"
        rates[name].append(len(record["codes"]) / float(np.sum(durations[tokenizer.encode(record["text"])])))
    overall = float(np.mean([rate for values in rates.values() for rate in values]))
    means = {name: float(np.mean(values)) if values else overall for name, values in rates.items()}
    return SpeechConfig(
        durations=tuple(map(float, durations)),
        slow_rate=means["slow"],
        usual_rate=means["usual"],
        fast_rate=means["fast"],
        max_prompt=stage.prompts.max_steps,
        max_text=stage.max_text,
    )
