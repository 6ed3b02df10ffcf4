"""Renders pictures and clips with questions: `python -m data_pipelines.rendered_media --out=D [--preset=P] [--verify]`.

Run again after an interruption it continues.
"""

import sys
import time

from absl import app, flags, logging

from data_pipelines.conversation_shards.dataset import open_conversations
from data_pipelines.rendered_media.builder import build_rendered_media
from data_pipelines.rendered_media.config import PRESETS

_OUT = flags.DEFINE_string("out", None, "directory for the shards", required=True)
_PRESET = flags.DEFINE_enum("preset", "demo", sorted(PRESETS), "what to render")
_WORKERS = flags.DEFINE_integer("workers", None, "worker processes; by default one a core", lower_bound=1)
_VERIFY = flags.DEFINE_bool("verify", False, "render nothing; read the shards in --out and compare their checksums")


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    start = time.monotonic()
    try:
        if _VERIFY.value:
            dataset = open_conversations(_OUT.value)
            dataset.verify()
            done = "verified"
        else:
            dataset = build_rendered_media(PRESETS[_PRESET.value](), _OUT.value, _WORKERS.value)
            done = "built"
    except (ValueError, RuntimeError) as error:
        sys.exit(f"rendered_media: {error}")
    except KeyboardInterrupt:
        sys.exit("rendered_media: interrupted; run it again to continue")
    print(dataset.summary())
    print(f"{done} {dataset.directory} in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    app.run(main)
