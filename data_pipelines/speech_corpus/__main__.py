"""Builds a speech corpus, or checks one: `python -m data_pipelines.speech_corpus --data_dir=D [--preset=P] [--verify]`.

Run again after an interruption it continues. The demo preset takes about a minute on two cores and half a gigabyte.
"""

from typing import Any

from absl import app, flags

from data_pipelines.command import build_or_verify, verified
from data_pipelines.speech_corpus.builder import Corpus, build_corpus, open_corpus
from data_pipelines.speech_corpus.presets import PRESETS

_DATA_DIR = flags.DEFINE_string("data_dir", None, "directory for the corpus", required=True)
_PRESET = flags.DEFINE_enum("preset", "demo", sorted(PRESETS), "which corpus to build")
_WORKERS = flags.DEFINE_integer("workers", None, "worker processes; by default one a core", lower_bound=1)
_VERIFY = flags.DEFINE_bool("verify", False, "build nothing; read the corpus in --data_dir and compare its checksums")


def main(_: list[str]) -> None:
    build_or_verify("speech_corpus", _build, _summary)


def _build() -> tuple[Any, str]:
    if _VERIFY.value:
        return verified(open_corpus(_DATA_DIR.value))
    return build_corpus(PRESETS[_PRESET.value](), _DATA_DIR.value, _WORKERS.value), "built"


def _summary(corpus: Corpus) -> str:
    rows = [(name, len(corpus.split(name)), corpus.seconds(name).sum() / 3600) for name in corpus.splits]
    rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    return "\n".join(f"{name:16}{utterances:8} utterances {hours:8.3f} hours" for name, utterances, hours in rows)


if __name__ == "__main__":
    app.run(main)
