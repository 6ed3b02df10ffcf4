"""Packing: every line with its media, the same bytes for any number of workers, resumed; one error for what is bad."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from data_pipelines import sharded_builder
from data_pipelines.conversation_shards.dataset import open_conversations
from data_pipelines.conversation_shards.jsonl import LineError, pack_conversations
from data_pipelines.media.sources import MediaBytes
from qomni_jax.sequence.chat import Image, Text, ToolCall, Turn, media_of
from tests.data_pipelines.conversation_shards.jsonl_files import asked, write_jsonl, write_source


@pytest.fixture
def copied(source, tmp_path):
    """A source of its own."""
    shutil.copytree(source.parent, tmp_path / "source")
    return tmp_path / "source" / source.name


def checksums(dataset):
    return json.loads((dataset.directory / "checksums.json").read_text())


def test_records_hold_the_lines_and_their_files(source, dataset):
    assert dataset.splits == ("train", "test")
    train, test = dataset.split("train"), dataset.split("test")
    assert (len(train), len(test)) == (6, 2)
    content = (source.parent / "media/picture.png").read_bytes()
    picture = Image(MediaBytes(content, "media/picture.png"))
    assert train[0].id == "seen"
    assert train[0].metadata == {"needs": "image", "n": 1.5}
    assert train[0].turns == (Turn("user", (picture, Text("What?"))), Turn("assistant", (Text("Yes."),)))
    assert train[4].turns[2] == Turn("assistant", (), (ToolCall("look", {"at": "ä"}),))
    assert [record.id for record in train[1:]] == ["line-000002", *(f"line-00000{n}" for n in (4, 5, 6, 7))]
    assert dataset.measures("test")["media_bytes"].tolist() == [len(content), 2 * len(content)]
    for record in train:
        for item in media_of(record.turns):
            assert item.source.data == (source.parent / item.source.name).read_bytes()
    assert "train                  6 conversations        7 media" in dataset.summary()
    open_conversations(dataset.directory).verify()


def test_the_number_of_workers_does_not_change_a_byte(source, dataset, tmp_path):
    assert checksums(pack_conversations(source, tmp_path, records_per_shard=2, workers=2)) == checksums(dataset)


@pytest.mark.parametrize(("picture_changes", "expected"), [(False, 3), (True, 4)])
def test_a_damaged_file_stops_it_and_once_mended_it_goes_on(
    copied, dataset, tmp_path, monkeypatch, picture_changes, expected
):
    sound, picture, out = copied.parent / "media/sound.flac", copied.parent / "media/picture.png", tmp_path / "out"
    intact = sound.read_bytes()
    sound.write_bytes(intact[:-1])
    with pytest.raises(ValueError, match=r"data\.jsonl, line 2: 'media/sound\.flac' is a damaged flac file"):
        pack_conversations(copied, out, records_per_shard=2, workers=1)
    with pytest.raises(ValueError, match="holds no conversations"):
        open_conversations(out)
    # The shard with the video is the longest, and was written first; it holds the picture too.
    assert len(list(out.glob("conversations/.staging*/*.json"))) == 1
    sound.write_bytes(intact)
    if picture_changes:
        picture.write_bytes(picture.read_bytes() + b"\0")
    written = []
    run_tasks = sharded_builder.run_tasks
    monkeypatch.setattr(sharded_builder, "run_tasks", lambda *args: (written.extend(args[2]), run_tasks(*args)))
    packed = pack_conversations(copied, out, records_per_shard=2, workers=1)
    assert len(written) == expected
    assert (checksums(packed) == checksums(dataset)) != picture_changes
    assert packed.split("train")[2].turns[0].content[2].source.data == picture.read_bytes()


def test_other_media_under_the_same_lines_are_not_what_is_there(copied, tmp_path):
    pack_conversations(copied, tmp_path / "out", records_per_shard=9, workers=1)
    picture = copied.parent / "media/picture.png"
    picture.write_bytes(picture.read_bytes() + b"\0")
    with pytest.raises(LineError, match=r"line 1: its media have \d+ bytes, and \d+ in .*: accepted is another"):
        pack_conversations(copied, tmp_path / "out", records_per_shard=9)
    with pytest.raises(ValueError, match="built with records_per_shard = 9, not 8: accepted is"):
        pack_conversations(copied, tmp_path / "out", records_per_shard=8)


GOOD = {"turns": asked({"text": "Yes?"})}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r'is not JSON at column 2 \(.*\): accepted is {"turns"'),
        ("[1]", 'accepted is {"turns"'),
        ("[" * 100_000, "is nested too deep"),
        ({"turn": []}, 'accepted is {"turns"'),
        ({"turns": [{"role": "user", "content": [{"picture": "a.png"}]}]}, r"turns\[0\]\.content\[0\] = "),
        ({**GOOD, "split": "all"}, "split = 'all': accepted is lower-case letters"),
        ({**GOOD, "id": 3}, "id = 3"),
        ({**GOOD, "id": "line-000001"}, "id 'line-000001' is that of line 1 too"),
        ({**GOOD, "metadata": []}, r"metadata = \[\]"),
        ({"turns": asked({"image": "none.png"})}, r"none\.png' cannot be read \(No such file"),
        ({"turns": asked({"image": "."})}, "is a directory"),
        ({"turns": asked({"image": ""})}, "media file '': accepted is a path relative to"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(tmp_path, line, message):
    source = write_jsonl(tmp_path, [GOOD, line])
    with pytest.raises(LineError, match=f"^{re.escape(str(source))}, line 2: .*{message}"):
        pack_conversations(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"none\.jsonl: No such file or directory; accepted is a readable file"):
        pack_conversations(tmp_path / "none.jsonl", tmp_path / "out")
    with pytest.raises(ValueError, match="has no line: accepted is one conversation a line"):
        pack_conversations(write_jsonl(tmp_path, ["", " "]), tmp_path / "out")
    (tmp_path / "latin.jsonl").write_bytes(b'{"turns": "\xe4"}')
    with pytest.raises(LineError, match="line 1: is not UTF-8 at byte 11"):
        pack_conversations(tmp_path / "latin.jsonl", tmp_path / "out")


def test_the_command_packs_and_fails_with_one_line(tmp_path):
    source = write_source(tmp_path)
    (tmp_path / "media/picture.png").write_bytes((tmp_path / "media/sound.flac").read_bytes())
    command = [
        sys.executable,
        "-m",
        "data_pipelines.conversation_shards",
        f"--source={source}",
        f"--out={tmp_path}/out",
    ]
    result = subprocess.run([*command, "--workers=1"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert re.search(r"data\.jsonl, line \d: 'media/picture\.png' is an audio file: accepted is a complete png", line)
