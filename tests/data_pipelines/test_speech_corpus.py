"""The builder: the same bytes for any number of workers, resuming, checksums, one clear error for what goes wrong."""

import dataclasses
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines import sharded_builder
from data_pipelines.records import CorruptShardError
from data_pipelines.shards import Staging, plan_shards
from data_pipelines.speech_corpus.builder import SpeechCorpus, build_corpus, open_corpus, verify
from data_pipelines.speech_corpus.espeak import Synthesizer


def checksums(corpus):
    return json.loads((corpus.directory / "checksums.json").read_text())


@pytest.fixture
def copied(small_corpus, tmp_path):
    """A data directory of its own that holds the small corpus."""
    shutil.copytree(small_corpus.directory.parent, tmp_path / "speech_corpus")
    return tmp_path


def command(*arguments):
    return [sys.executable, "-m", "data_pipelines.speech_corpus", *arguments]


def test_records_hold_what_was_spoken(small_corpus, small_config):
    source = small_corpus.split("train")
    assert small_corpus.config == small_config
    assert small_corpus.splits == ("train", "test")
    assert len(source) == 25
    assert [record["id"] for record in source] == [f"train-{index:06d}" for index in range(25)]
    record = source[13]
    spoken = Synthesizer.shared().speak(record["text"], record["voice"], record["rate_wpm"], record["pitch"])
    np.testing.assert_array_equal(record["audio"], spoken.audio)
    for name, values in record["words"].items():
        np.testing.assert_array_equal(values, getattr(spoken.words, name))
        assert values.dtype == getattr(spoken.words, name).dtype
    assert record["phonemes"]["symbol"] == spoken.phonemes.symbols
    assert small_corpus.seconds("train")[13] == len(record["audio"]) / 16000


def test_a_source_travels_to_other_processes_and_refuses_indices_beyond_its_end(small_corpus):
    source = small_corpus.split("test")
    copy = pickle.loads(pickle.dumps(source))
    assert copy[-1]["id"] == source[5]["id"] == "test-000005"
    with pytest.raises(IndexError, match="record 6"):
        source[6]
    with pytest.raises(ValueError, match=r"split 'dev'.*accepted is one of train, test"):
        small_corpus.split("dev")


def test_tfds_reads_it(small_corpus, small_config):
    builder = tfds.builder_from_directory(str(small_corpus.directory))
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {"train": 25, "test": 6}
    expected = small_corpus.split("train")[24]
    for source in (
        builder.as_data_source("train"),
        SpeechCorpus(corpus=small_config, data_dir=small_corpus.directory.parent.parent).as_data_source("train"),
    ):
        np.testing.assert_array_equal(source[24]["audio"], expected["audio"])
        assert source[24]["text"].decode() == expected["text"]


def test_the_number_of_workers_does_not_change_a_byte(small_corpus, small_config, tmp_path):
    assert checksums(build_corpus(small_config, tmp_path, workers=3)) == checksums(small_corpus)
    assert not list((tmp_path / "speech_corpus").glob(".staging*"))


def test_a_killed_build_continues_with_the_missing_shards(small_corpus, small_config, tmp_path, monkeypatch):
    script = (
        "import json, sys; from data_pipelines.speech_corpus import builder, config;"
        "corpus = config.CorpusConfig.from_dict(json.loads(sys.argv[1]));"
        "builder.build_corpus(corpus, sys.argv[2], workers=1)"
    )
    arguments = [json.dumps(dataclasses.asdict(small_config)), str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], start_new_session=True)
    deadline = time.monotonic() + 60
    while not (finished := list(tmp_path.glob("speech_corpus/.staging*/*.json"))) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = list(tmp_path.glob("speech_corpus/.staging*/*.json"))
    assert 0 < len(finished) < 4
    changed = finished[0].with_suffix("")  # a staged shard whose bytes changed is written again too
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    written = []
    run_tasks = sharded_builder.run_tasks
    monkeypatch.setattr(sharded_builder, "run_tasks", lambda *args: (written.extend(args[2]), run_tasks(*args)))
    assert checksums(build_corpus(small_config, tmp_path, workers=1)) == checksums(small_corpus)
    assert len(written) == 4 - len(finished) + 1


def test_a_build_that_is_there_is_not_made_again(small_corpus, small_config, monkeypatch):
    monkeypatch.setattr(sharded_builder, "run_tasks", None)
    again = build_corpus(small_config, small_corpus.directory.parent.parent)
    assert again.directory == small_corpus.directory


def test_another_config_in_the_same_place_is_an_error_naming_the_field(copied, small_config):
    changed = dataclasses.replace(small_config.splits[0], max_rate=280)
    other = dataclasses.replace(small_config, splits=(changed, small_config.splits[1]))
    with pytest.raises(ValueError, match=r"built with corpus\.splits\[0\]\.max_rate = 270, not 280: accepted is"):
        build_corpus(other, copied)
    one_split = dataclasses.replace(small_config, splits=small_config.splits[:1])
    with pytest.raises(ValueError, match=r"number of corpus\.splits = 2, not 1"):
        build_corpus(one_split, copied)


def test_a_changed_byte_is_found_by_verify_and_names_the_shard(copied):
    verify(copied)
    shard = copied / "speech_corpus/1.0.0/speech_corpus-train.array_record-00001-of-00003"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    corpus = open_corpus(copied)
    with pytest.raises(CorruptShardError, match=f"{shard.name} does not have the sha256.*remove .* and build"):
        corpus.verify()
    with pytest.raises(CorruptShardError, match=f"{shard.name} cannot be read at record"):
        list(corpus.split("train"))


@pytest.mark.parametrize(("damage", "message"), [("cut", "has 100 bytes, not"), ("missing", "is missing")])
def test_a_cut_or_missing_shard_is_found_on_opening(copied, damage, message):
    shard = copied / "speech_corpus/1.0.0/speech_corpus-test.array_record-00000-of-00001"
    content = shard.read_bytes()
    shard.unlink()
    if damage == "cut":
        shard.write_bytes(content[:100])
    with pytest.raises(CorruptShardError, match=f"{shard.name} {message}"):
        open_corpus(copied)


def test_a_place_that_cannot_be_written_to_is_one_error(small_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write .*Not a directory; accepted is a writable directory"):
        build_corpus(small_config, tmp_path / "file" / "corpus")


def test_too_little_room_is_found_before_anything_is_written(small_config, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match="has 0 MB free: accepted is at least"):
        build_corpus(small_config, tmp_path)
    assert not (tmp_path / "speech_corpus/1.0.0").exists()


def test_a_disk_that_fills_up_leaves_nothing_that_looks_finished(small_config, tmp_path):
    staging = Staging(tmp_path / "corpus", {"size": 1})
    script = (
        "import pathlib, sys; from data_pipelines.shards import Shard, write_shard;"
        "write_shard(pathlib.Path(sys.argv[1]), Shard('d', 's', 0, 1, 0, 9), [(b'x' * 50000, {'n': 1})] * 9)"
    )
    with staging.locked():
        result = subprocess.run(
            [sys.executable, "-c", script, str(staging.path)],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert "ValueError: cannot write" in result.stderr
        assert staging.missing(plan_shards("d", {"s": 9}, 9))
        assert [path.name for path in staging.path.iterdir()] == ["lock"]


def test_two_builds_in_one_place_at_once_are_an_error(tmp_path):
    with (
        Staging(tmp_path / "corpus", {}).locked(),
        pytest.raises(ValueError, match="being built by another process"),
        Staging(tmp_path / "corpus", {}).locked(),
    ):
        pass


def test_a_worker_does_not_import_jax():
    script = "import sys, data_pipelines.speech_corpus.synthesis; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_command_verifies_and_fails_with_one_line(copied, tmp_path):
    result = subprocess.run(command(f"--data_dir={copied}", "--verify"), capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "train" in result.stdout
    assert "31 utterances" in result.stdout
    result = subprocess.run(
        command(f"--data_dir={tmp_path / 'none'}", "--verify"), capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "holds no speech corpus" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
