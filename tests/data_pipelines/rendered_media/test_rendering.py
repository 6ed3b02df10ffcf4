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
            assert [turn.role for turn in record.turns] == ["user", "assistant"]


def test_pictures_come_first_and_clips_have_sound(rendered):
    for record in rendered["train"][:12]:
        (item,) = media_of(record.turns)
        assert isinstance(item, Image)
        assert record.metadata["needs"] == "image"
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
    needs = [record.metadata["needs"] for record in rendered["train"]]
    assert set(needs) == {"image", "audio", "video", "both"}
    assert {record.metadata["question"] for record in rendered["train"][:12]} == {"written", "at_place", "place_of"}


def test_a_time_in_an_answer_is_that_of_the_metadata(rendered):
    times = 0
    for record in (record for records in rendered.values() for record in records):
        written = parse_timestamps(record.turns[1].content[0].text)
        seconds = record.metadata["seconds"]
        assert len(written) == (seconds is not None)
        if written:
            times += 1
            assert abs(written[0] - seconds) <= 0.05 + 1e-9  # a tenth of a second is written
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
