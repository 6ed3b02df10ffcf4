"""Builds a speech corpus, or checks one: `python -m data_pipelines.speech_corpus --data_dir=D [--preset=P] [--verify]`.

Run again after an interruption it continues. The demo preset takes about a minute on two cores and half a gigabyte.
"""

import sys
import time

from absl import app, flags, logging

from data_pipelines.speech_corpus.builder import Corpus, build_corpus, open_corpus
from data_pipelines.speech_corpus.presets import PRESETS

_DATA_DIR = flags.DEFINE_string("data_dir", None, "directory for the corpus", required=True)
_PRESET = flags.DEFINE_enum("preset", "demo", sorted(PRESETS), "which corpus to build")
_WORKERS = flags.DEFINE_integer("workers", None, "worker processes; by default one a core", lower_bound=1)
_VERIFY = flags.DEFINE_bool("verify", False, "build nothing; read the corpus in --data_dir and compare its checksums")


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    start = time.monotonic()
    try:
        if _VERIFY.value:
            corpus = open_corpus(_DATA_DIR.value)
            corpus.verify()
            done = "verified"
        else:
            corpus = build_corpus(PRESETS[_PRESET.value](), _DATA_DIR.value, _WORKERS.value)
            done = "built"
    except (ValueError, RuntimeError) as error:
        sys.exit(f"speech_corpus: {error}")
    except KeyboardInterrupt:
        sys.exit("speech_corpus: interrupted; run it again to continue")
    print(_summary(corpus))
    print(f"{done} {corpus.directory} in {time.monotonic() - start:.0f} s")


def _summary(corpus: Corpus) -> str:
    rows = [(name, len(corpus.split(name)), corpus.seconds(name).sum() / 3600) for name in corpus.splits]
    rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    return "\n".join(f"{name:16}{utterances:8} utterances {hours:8.3f} hours" for name, utterances, hours in rows)


if __name__ == "__main__":
    app.run(main)
