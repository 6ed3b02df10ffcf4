"""Renders pictures and clips with questions: `python -m data_pipelines.rendered_media --out=D [--preset=P] [--verify]`.

Run again after an interruption it continues.
"""

from typing import Any

from absl import app, flags

from data_pipelines.command import build_or_verify, verified
from data_pipelines.conversation_shards.dataset import open_conversations
from data_pipelines.rendered_media.builder import build_rendered_media
from data_pipelines.rendered_media.config import PRESETS

_OUT = flags.DEFINE_string("out", None, "directory for the shards", required=True)
_PRESET = flags.DEFINE_enum("preset", "demo", sorted(PRESETS), "what to render")
_WORKERS = flags.DEFINE_integer("workers", None, "worker processes; by default one a core", lower_bound=1)
_VERIFY = flags.DEFINE_bool("verify", False, "render nothing; read the shards in --out and compare their checksums")


def main(_: list[str]) -> None:
    build_or_verify("rendered_media", _build, lambda dataset: dataset.summary())


def _build() -> tuple[Any, str]:
    if _VERIFY.value:
        return verified(open_conversations(_OUT.value))
    return build_rendered_media(PRESETS[_PRESET.value](), _OUT.value, _WORKERS.value), "built"


if __name__ == "__main__":
    app.run(main)
