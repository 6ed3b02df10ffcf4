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
    grid_questions,
    place_name,
    writing_question,
)
from data_pipelines.shards import Shard
from data_pipelines.speech_corpus.sentences import draw_sentence, item_generator
from data_pipelines.workers import Records, serve_shards
from qomni_jax.sequence.chat import Image as ImageItem
from qomni_jax.sequence.chat import Media, Text, Turn, Video

_NEEDS = ("audio", "video", "both")
_MAX_FIGURES = 4


def render_record(config: RenderedMediaConfig, split: SplitConfig, index: int) -> ConversationRecord:
    """Record `index` of a split: a question about a picture or a clip, and its answer.

    Its metadata hold `needs` (image; audio, video or both), `question` (its kind), `seconds` (the time that the answer
    is, or None), `shown` (names in order, or by place), and of clips `since` (seconds) and `said`.
    """
    rng = item_generator(config.seed, split.name, index)
    name = f"{split.name}-{index:06d}"
    if index >= split.pictures:
        return _clip_record(config, split.held_out, name, rng)
    return (_writing_record if rng.integers(2) else _grid_record)(config, split.held_out, name, rng)


def _writing_record(
    config: RenderedMediaConfig, held_out: bool, name: str, rng: np.random.Generator
) -> ConversationRecord:
    source = config.sentences[rng.integers(len(config.sentences))]
    text = draw_sentence(rng, source, "en", (1, config.max_written_words), held_out)
    assert text is not None
    shown = Writing(COLOURS[rng.integers(len(COLOURS))], text)
    image = draw_background(rng, config.side)
    draw_appearance(image, shown, (0, 0, config.side), rng)
    return _record(name, _png(name, image), writing_question(shown), {"shown": shown.name})


def _grid_record(
    config: RenderedMediaConfig, held_out: bool, name: str, rng: np.random.Generator
) -> ConversationRecord:
    rows = config.grids[rng.integers(len(config.grids))]
    pool, side = figures(held_out), config.side / rows
    image, cells = draw_background(rng, config.side), {}
    places = sorted(rng.permutation(rows * rows)[: rng.integers(1, _MAX_FIGURES + 1)].tolist())
    for row, column in (divmod(place, rows) for place in places):
        figure = cells[place_name(rows, row, column)] = pool[rng.integers(len(pool))]
        draw_appearance(image, figure, (column * side, row * side, side), rng)
    asked = grid_questions(cells)
    shown = {place: figure.name for place, figure in cells.items()}
    return _record(name, _png(name, image), asked[rng.integers(len(asked))], {"shown": shown})


def _clip_record(
    config: RenderedMediaConfig, held_out: bool, name: str, rng: np.random.Generator
) -> ConversationRecord:
    needs = _NEEDS[rng.integers(len(_NEEDS))]
    while True:  # not every clip has a word that is clear of the changes
        clip, sound = draw_clip(config, held_out, rng)
        if asked := clip_questions(clip)[needs]:
            break
    kinds = sorted({question.kind for question in asked})
    kind = kinds[rng.integers(len(kinds))]
    of_kind = [question for question in asked if question.kind == kind]
    content = render_clip(config, clip, sound, rng)
    video = Video(MediaBytes(content, f"{name}.{config.container}"), sound=True)
    shown = {"shown": [shown.name for shown in clip.shown], "since": list(clip.since), "said": clip.said}
    return _record(name, video, of_kind[rng.integers(len(of_kind))], shown)


def _record(name: str, media: Media, question: Question, metadata: dict[str, Any]) -> ConversationRecord:
    turns = (Turn("user", (media, Text(question.text))), Turn("assistant", (Text(question.answer),)))
    known = {"needs": question.needs, "question": question.kind, "seconds": question.seconds}
    return ConversationRecord(name, turns, {**known, **metadata})


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
