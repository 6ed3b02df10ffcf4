"""Records show and say what they are asked about; held-out splits have what no other has; every need is there."""

from data_pipelines.conversation_shards.schema import decode_conversation, encode_conversation
from data_pipelines.media.audio import read_audio
from data_pipelines.media.image import read_image
from data_pipelines.media.probe import probe
from data_pipelines.media_items import check_item
from data_pipelines.rendered_media.appearances import figures
from data_pipelines.rendered_media.rendering import render_record
from data_pipelines.speech_corpus.sentences import is_held_out
from qomni_jax.sequence.chat import Image, Video, media_of
from qomni_jax.sequence.timestamps import parse_timestamps


def test_every_record_can_be_read_and_comes_back(rendered):
    for records in rendered.values():
        for record in records:
            (item,) = media_of(record.turns)
            check_item(item)
            assert decode_conversation(encode_conversation(record)[0]) == record
            asked = len(record.metadata["questions"])
            assert [turn.role for turn in record.turns] == ["user", "assistant"] * asked
            assert 1 <= asked <= (3 if record.id.startswith("train") else 1)


def test_pictures_come_first_and_clips_have_sound(rendered):
    for record in rendered["train"][:12]:
        (item,) = media_of(record.turns)
        assert isinstance(item, Image)
        assert {question["needs"] for question in record.metadata["questions"]} == {"image"}
        assert read_image(item.source).shape == (64, 64, 3)
    for record in rendered["train"][12:]:
        (item,) = media_of(record.turns)
        assert item == Video(item.source, sound=True)
        info, frames = probe(item.source), 2 * len(read_audio(item.source)) / 16_000
        assert info.num_frames == frames
        assert 3 <= info.duration <= 6
        assert record.metadata["since"][0] == 0
        assert len(record.metadata["shown"]) == len(record.metadata["since"]) >= 3


def test_every_kind_of_question_is_asked(rendered):
    asked = [record.metadata["questions"] for record in rendered["train"]]
    assert {question["needs"] for questions in asked for question in questions} == {"image", "audio", "video", "both"}
    assert {question["kind"] for questions in asked[:12] for question in questions} == {
        "all_places",
        "at_place",
        "place_of",
        "written",
        "colour",
    }


def test_no_question_is_asked_twice(rendered):
    for record in rendered["train"]:
        texts = [turn.content[-1].text for turn in record.turns[::2]]
        assert len(set(texts)) == len(texts)


def test_a_time_in_an_answer_is_that_of_the_metadata(rendered):
    times = 0
    for record in (record for records in rendered.values() for record in records):
        for question, answer in zip(record.metadata["questions"], record.turns[1::2], strict=True):
            written = parse_timestamps(answer.content[0].text)
            if question["seconds"] is not None:
                times += 1
                assert len(written) == 1
                assert abs(written[0] - question["seconds"]) <= 0.05 + 1e-9  # a tenth of a second is written
            elif question["kind"] == "all_shown":
                assert written == record.metadata["since"]
            else:
                assert not written
    assert times


def test_what_is_held_out_is_in_no_other_split(rendered):
    names = {part: {figure.name for figure in figures(part)} for part in (False, True)}
    for split, held_out in (("train", False), ("held_out", True)):
        for record in rendered[split]:
            shown = record.metadata["shown"]
            if "said" in record.metadata:
                assert is_held_out(record.metadata["said"]) == held_out
            if isinstance(shown, str):
                assert is_held_out(shown) == held_out
            elif isinstance(shown, dict) or shown[0] in names[False] | names[True]:
                assert set(shown.values() if isinstance(shown, dict) else shown) <= names[held_out]
            else:
                assert is_held_out(" ".join(shown)) == held_out


def test_a_record_is_the_same_whatever_was_rendered_before(config, rendered):
    split = config.split("train")
    for index in (20, 3):
        assert render_record(config, split, index) == rendered["train"][index]
