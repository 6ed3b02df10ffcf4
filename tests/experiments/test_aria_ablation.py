"""The ARIA study as a command: from nothing to a report, interrupted and started again, and refused in one line."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

pytestmark = pytest.mark.e2e

# The quick study with every part shrunk: two schemes, two test sets, a codec and Talkers that learn next to nothing.
BINDINGS = """
StudyConfig.corpus = @CorpusConfig()
CorpusConfig.splits = (@train/SplitConfig(), @test_short/SplitConfig(), @test_long/SplitConfig())
SplitConfig.min_rate = 200
SplitConfig.max_rate = 270
SplitConfig.voices = ('en-us+klatt6',)
train/SplitConfig.name = 'train'
train/SplitConfig.utterances = 160
train/SplitConfig.min_words = 1
train/SplitConfig.max_words = 3
test_short/SplitConfig.name = 'test_short'
test_short/SplitConfig.utterances = 4
test_short/SplitConfig.min_words = 2
test_short/SplitConfig.max_words = 2
test_short/SplitConfig.held_out = True
test_long/SplitConfig.name = 'test_long'
test_long/SplitConfig.utterances = 3
test_long/SplitConfig.min_words = 3
test_long/SplitConfig.max_words = 3
test_long/SplitConfig.held_out = True

LogMelConfig.num_mels = 40
RVQConfig.latent_dim = 32
RVQConfig.num_codebooks = 3
RVQConfig.codebook_size = 32
VocoderConfig.width = 32
VocoderConfig.num_blocks = 1
CodecTrainingConfig.utterances = 150
CodecTrainingConfig.steps = 20
CodecTrainingConfig.batch_size = 4
StudyConfig.max_resynthesis_wer = 10.0
StudyConfig.max_clean_wer = 10.0
StudyConfig.min_stoi = -1.0

StudyConfig.talker = @talker_tiny()
TalkerTrainingConfig.steps = 8
TalkerTrainingConfig.batch_size = 8
TalkerTrainingConfig.checkpoint_every = 4
TalkerTrainingConfig.log_every = 2
EvaluationConfig.sets = ('short', 'long')
EvaluationConfig.curve_steps = (4, 8)
EvaluationConfig.curve_sentences = 2
StudyConfig.arms = (@aria/Arm(), @dual_track/Arm())
StudyConfig.workers = 2
"""
RUNS = ("aria-seed0", "dual_track-seed0")
KEPT = ("corpus", "codec", "codec_training", "codes", "talkers", "results", "tokenizers")


def start(workdir: pathlib.Path, *more: str) -> subprocess.Popen:
    """The command, in a process group of its own."""
    flags = ["--gin_file=experiments/configs/aria_quick.gin", f"--workdir={workdir}"]
    flags += [f"--gin_bindings={binding}" for binding in (BINDINGS, *more)]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.aria_ablation", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> str:
    """What the command printed; it has to end with status 0."""
    output = process.communicate()[0]
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> pathlib.Path:
    """The workdir of a study that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("study") / "whole"
    finish(start(workdir))
    return workdir


def read(path: pathlib.Path):
    return json.loads(path.read_text(encoding="utf-8"))


def figures(workdir: pathlib.Path) -> dict:
    """The report but for what it says of this sitting."""
    return {name: value for name, value in read(workdir / "report.json").items() if name != "run"}


def parameters(workdir: pathlib.Path, run: str) -> dict[str, np.ndarray]:
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(workdir.absolute() / "talkers" / run / "checkpoints" / "8" / "default")
    return {name: np.asarray(value) for name, value in state.items()}


def test_the_report_holds_what_the_contract_says(study):
    report = read(study / "report.json")
    assert set(report["schemes"]) == {"aria", "dual_track"}
    for scheme in report["schemes"].values():
        assert scheme.keys() >= {
            "wer",
            "substitutions",
            "deletions",
            "insertions",
            "long_wer",
            "first_audio_frames",
            "train_seconds",
            "seeds",
        }
        for name in ("wer", "long_wer"):
            assert 0 <= scheme[name]["low"] <= scheme[name]["mean"] <= scheme[name]["high"]
        assert scheme["train_seconds"] > 0
    assert report["codec"].keys() >= {"resynthesis_wer", "stoi"}
    assert report["judge"].keys() >= {"name", "clean_wer"}
    assert report["judge"]["clean_wer"] <= 0.1  # the recordings themselves are understood


def test_the_page_needs_nothing_from_outside(study):
    page = (study / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href|action)\s*=\s*[\"']?(?:https?:)?//|url\([\"']?(?:https?:)?//|@import", page)
    for wav in re.findall(r"src=\"([^\"]+\.wav)\"", page):
        assert (study / wav).is_file()


def test_run_again_it_does_no_work_and_says_the_same(study):
    before = figures(study)
    made = [path for path in study.rglob("*") if path.is_file() and path.parts[len(study.parts)] in KEPT]
    times = {path: path.stat().st_mtime_ns for path in made}
    output = finish(start(study))
    assert " step " not in output
    assert {path: path.stat().st_mtime_ns for path in made} == times
    assert figures(study) == before


def test_killed_and_started_again_it_ends_the_same(study, tmp_path):
    workdir = tmp_path / "cut"
    workdir.mkdir()
    shutil.copytree(study / "compiled", workdir / "compiled")  # programs alone: the test is not about compiling
    process = start(workdir)
    awaited = workdir / "talkers" / RUNS[0] / "checkpoints" / "4"
    try:
        while not awaited.exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (workdir / "results" / f"{RUNS[0]}.json").exists()
    finish(start(workdir))
    for run in RUNS:
        ours, theirs = (read(place / "results" / f"{run}.json") for place in (workdir, study))
        assert ours["sets"] == theirs["sets"]
        curves = [[(p["step"], p["loss"], p["wer"]) for p in result["curve"]] for result in (ours, theirs)]
        assert curves[0] == curves[1]
        assert [point[0] for point in curves[0]] == [4, 8]
        ours, theirs = (parameters(place, run) for place in (workdir, study))
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_a_workdir_of_another_configuration_is_refused_in_one_line(study):
    before = (study / "report.json").read_bytes()
    process = start(study, "TalkerTrainingConfig.batch_size = 5")
    output = process.communicate()[0]
    assert process.returncode == 1
    (line,) = output.splitlines()
    assert line.startswith("aria_ablation: ")
    assert "training.batch_size = 8, asked for is 5" in line
    assert (study / "report.json").read_bytes() == before
