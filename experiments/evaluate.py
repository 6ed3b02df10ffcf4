"""Measures a trained model on held-out data.

Command: python -m experiments.evaluate --task=asr|media|voice --checkpoint=out/thinker/model [--json=F]

`asr`: what a Thinker hears in the test splits of a speech corpus. It prints for every split the word error rate of the
greedy answers with its 95 % bootstrap interval over sentences, and how far the times that it writes are from where the
words start. Voices that no training split has are a split of their own. Recordings longer than `--window` are heard
piece by piece, each from the last word of the one before.
`media`: how many questions about rendered pictures and clips it answers right; about clips with their sound alone, with
their pictures alone, and with both, by what a question needs. A time counts as right within 0.3 s.
`voice`: how well a Talker takes a voice from its prompt. In voices that no training had, it says sentences from a
reference clip, from a word of style, from both and from nothing, and beside them stand recordings and what the codec
makes of them. A speaker encoder trained apart (kept beside the checkpoint) says whether a clone is closer to its
reference than to other voices, the judge what is said; rate, pitch and level are measured.
Cost: about a minute on two CPU cores (`asr`), a few (`media`), about five, and two more the first time (`voice`).
"""

from collections.abc import Sequence
import dataclasses
import json
from pathlib import Path
import sys
from typing import Any, NoReturn

from absl import app, flags, logging

TASKS = ("asr", "media", "voice")

_TASK = flags.DEFINE_enum("task", None, TASKS, "what is measured.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "the directory of a model that experiments.train has left.")
_DATA = flags.DEFINE_string("data", None, "a dataset; by default `corpus`, or `media` (media), beside the checkpoint.")
_SPLITS = flags.DEFINE_list("splits", [], "splits of it; by default all that no training takes.")
_BATCH = flags.DEFINE_integer("batch_size", 32, "conversations at a time.", lower_bound=1)
_WINDOW = flags.DEFINE_float(
    "window", 2.0, "asr: seconds that are heard at a time, where a recording is longer; 0: all of it.", lower_bound=0.0
)
_CLONES = flags.DEFINE_integer("clones", 5, "voice: sentences of each held-out voice.", lower_bound=1)
_STYLED = flags.DEFINE_integer("styled", 2, "voice: of these, said with every word of style as well.", lower_bound=1)
_ENCODER_STEPS = flags.DEFINE_integer(
    "encoder_steps", 400, "voice: steps of the speaker encoder's training, where there is none yet.", lower_bound=1
)
_DECODER = flags.DEFINE_enum(
    "decoder", "vocoder", ("vocoder", "griffin_lim"), "voice: what makes sound of codes: the codec's, or Griffin-Lim."
)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "voice: 0 takes the likeliest code.", lower_bound=0.0)
_TOP_K = flags.DEFINE_integer("top_k", 20, "voice: codes that are drawn from; 0 for all.", lower_bound=0)
_JSON = flags.DEFINE_string("json", None, "where figures and answers are written.")


def main(argv: Sequence[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        _fail(f"argument {argv[1]!r}: accepted are flags alone (--help lists them)")
    if not _CHECKPOINT.value:
        _fail("--checkpoint is missing: accepted is the directory of a model, such as out/thinker/model")
    try:
        tasks = {"asr": evaluate_asr, "media": evaluate_media, "voice": evaluate_voice}
        found = tasks[_TASK.value](Path(_CHECKPOINT.value))
    except (ValueError, OSError) as error:
        _fail(" ".join(str(error).split()))
    if _JSON.value:
        from experiments.files import write_atomically

        write_atomically(Path(_JSON.value), json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def evaluate_asr(checkpoint: Path) -> dict[str, Any]:
    """The record of `--json`. Raises ValueError and OSError with one line that says what is wrong."""
    from data_pipelines.speech_corpus.builder import open_corpus
    from experiments.thinker.asr import Listener, describe, score

    listener = Listener(*_load(checkpoint), window=_WINDOW.value or None)
    corpus = open_corpus(_DATA.value or checkpoint.parent / "corpus")
    splits = _SPLITS.value or [split.name for split in corpus.config.splits if split.held_out]
    found: dict[str, Any] = {}
    for name in splits:
        records = list(corpus.split(name))
        found[name] = score(records, listener.listen([record["audio"] for record in records], _BATCH.value))
        print(describe(name, found[name]), flush=True)
    return {"task": "asr", "checkpoint": str(checkpoint), "splits": found}


def evaluate_media(checkpoint: Path) -> dict[str, Any]:
    """The record of `--json`. Raises ValueError and OSError with one line that says what is wrong."""
    from data_pipelines.conversation_shards.dataset import open_conversations
    from experiments.thinker.questions import accuracies, answer_all, describe

    model = _load(checkpoint)
    dataset = open_conversations(_DATA.value or checkpoint.parent / "media")
    found: dict[str, Any] = {}
    for name in _SPLITS.value or [name for name in dataset.splits if name != "train"]:
        answered = answer_all(*model, list(dataset.split(name)), _BATCH.value)
        shares = accuracies(answered)
        print(f"{name}:")
        for what, figures in shares.items():
            print(f"  {describe(what, figures)}", flush=True)
        found[name] = {"accuracies": shares, "answers": [dataclasses.asdict(item) for item in answered]}
    return {"task": "media", "checkpoint": str(checkpoint), "splits": found}


def evaluate_voice(checkpoint: Path) -> dict[str, Any]:
    """The record of `--json`. Raises ValueError and OSError with one line that says what is wrong."""
    from experiments.voice.evaluation import evaluate
    from qomni_jax.config.sampling import SamplingConfig

    return evaluate(
        checkpoint,
        Path(_DATA.value) if _DATA.value else checkpoint.parent / "corpus",
        SamplingConfig(_TEMPERATURE.value, _TOP_K.value),
        clones=_CLONES.value,
        styled=_STYLED.value,
        encoder_steps=_ENCODER_STEPS.value,
        decoder=_DECODER.value,
        report=lambda line: print(line, flush=True),
    )


def _load(checkpoint: Path) -> tuple[Any, Any, Any]:
    """What it is, its parameters, and its tokenizer."""
    from qomni_jax.thinker.storage import load_thinker

    stored, params, tokenizer = load_thinker(checkpoint)
    if tokenizer is None:
        raise ValueError(f"{checkpoint}: has no tokenizer.json: accepted is a model with one")
    return stored, params, tokenizer


def _fail(message: str) -> NoReturn:
    print(f"evaluate: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    app.run(main)
