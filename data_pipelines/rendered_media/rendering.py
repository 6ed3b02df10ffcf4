"""The records of rendered media. Run as a module it is a worker of `data_pipelines.sharded_builder`."""

from collections.abc import Callable, Iterator
import io
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines.conversation_shards.schema import ConversationRecord, encode_conversation
from data_pipelines.media.sources import MediaBytes
from data_pipelines.rendered_media.appearances import (
    COLOURS,
    Writing,
    draw_appearance,
    draw_background,
    figures,
)
from data_pipelines.rendered_media.clips import draw_clip, render_clip
from data_pipelines.rendered_media.config import RenderedMediaConfig, SplitConfig
from data_pipelines.rendered_media.questions import (
    Question,
    clip_questions,
    draw_questions,
    grid_questions,
    place_name,
    writing_questions,
)
from data_pipelines.shards import Shard
from data_pipelines.speech_corpus.sentences import draw_sentence, item_generator
from data_pipelines.workers import Records, serve_shards
from qomni_jax.sequence.chat import Image as ImageItem
from qomni_jax.sequence.chat import Media, Text, Turn, Video

_NEEDS = ("audio", "video", "both")
_MAX_FIGURES = 4


def render_record(config: RenderedMediaConfig, split: SplitConfig, index: int) -> ConversationRecord:
    """Record `index` of a split: questions about a picture or a clip, and their answers.

    Its metadata hold of each question, in `questions`, its `kind`, what it `needs` (image; audio, video or both) and
    the `seconds` that its answer is, or None; `shown` (names in order, or by place); and of clips their
    length in `seconds`, `since` (seconds) and `said`.
    """
    rng = item_generator(config.seed, split.name, index)
    name = f"{split.name}-{index:06d}"
    if index >= split.pictures:
        return _clip_record(config, split, name, rng)
    return (_writing_record if rng.integers(2) else _grid_record)(config, split, name, rng)


def _writing_record(
    config: RenderedMediaConfig, split: SplitConfig, name: str, rng: np.random.Generator
) -> ConversationRecord:
    source = config.sentences[rng.integers(len(config.sentences))]
    text = draw_sentence(rng, source, "en", (1, config.max_written_words), split.held_out)
    assert text is not None
    shown = Writing(COLOURS[rng.integers(len(COLOURS))], text)
    image = draw_background(rng, config.side)
    draw_appearance(image, shown, (0, 0, config.side), rng)
    asked = draw_questions({"image": writing_questions(shown)}, split.questions, rng)
    return _record(name, _png(name, image), asked, {"shown": shown.name})


def _grid_record(
    config: RenderedMediaConfig, split: SplitConfig, name: str, rng: np.random.Generator
) -> ConversationRecord:
    rows = config.grids[rng.integers(len(config.grids))]
    pool, side = figures(split.held_out), config.side / rows
    image, cells = draw_background(rng, config.side), {}
    places = sorted(rng.permutation(rows * rows)[: rng.integers(1, _MAX_FIGURES + 1)].tolist())
    for row, column in (divmod(place, rows) for place in places):
        figure = cells[place_name(rows, row, column)] = pool[rng.integers(len(pool))]
        draw_appearance(image, figure, (column * side, row * side, side), rng)
    asked = draw_questions({"image": grid_questions(cells)}, split.questions, rng)
    return _record(name, _png(name, image), asked, {"shown": {at: figure.name for at, figure in cells.items()}})


def _clip_record(
    config: RenderedMediaConfig, split: SplitConfig, name: str, rng: np.random.Generator
) -> ConversationRecord:
    needs = _NEEDS[rng.integers(len(_NEEDS))]
    while True:  # not every clip has a word that is clear of the changes
        clip, sound = draw_clip(config, split.held_out, rng)
        if (found := clip_questions(clip))[needs]:
            break
    asked = draw_questions(found, split.questions, rng, needs)
    content = render_clip(config, clip, sound, rng)
    video = Video(MediaBytes(content, f"{name}.{config.container}"), sound=True)
    shown = [shown.name for shown in clip.shown]
    known = {"seconds": clip.seconds, "shown": shown, "since": list(clip.since), "said": clip.said}
    return _record(name, video, asked, known)


def _record(name: str, media: Media, asked: list[Question], metadata: dict[str, Any]) -> ConversationRecord:
    turns: list[Turn] = []
    for question in asked:
        content = (Text(question.text),) if turns else (media, Text(question.text))
        turns += [Turn("user", content), Turn("assistant", (Text(question.answer),))]
    known = [{"kind": question.kind, "needs": question.needs, "seconds": question.seconds} for question in asked]
    return ConversationRecord(name, tuple(turns), {"questions": known, **metadata})


def _png(name: str, image: Image.Image) -> ImageItem:
    file = io.BytesIO()
    image.save(file, "png")
    return ImageItem(MediaBytes(file.getvalue(), f"{name}.png"))


def _start_worker(setup: dict[str, Any]) -> Callable[[Shard, dict[str, Any]], Records]:
    config = RenderedMediaConfig.from_dict(setup["config"])

    def records(shard: Shard, _: dict[str, Any]) -> Iterator[tuple[bytes, dict[str, int]]]:
        split = config.split(shard.split)
        for index in range(shard.start, shard.stop):
            yield encode_conversation(render_record(config, split, index))

    return records


if __name__ == "__main__":
    serve_shards(_start_worker)
