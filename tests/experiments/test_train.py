"""Training a Thinker and measuring it, as commands: from nothing to figures, and refused in one line."""

import json
import os
import subprocess
import sys

import chex
import pytest

from qomni_jax.thinker.storage import load_thinker

pytestmark = pytest.mark.e2e

BINDINGS = """
TrainConfig.stage = @TranscriptionStage()
TranscriptionStage.corpus = @CorpusConfig()
CorpusConfig.splits = (@train/SplitConfig(), @test_short/SplitConfig())
SplitConfig.min_rate = 200
SplitConfig.max_rate = 270
SplitConfig.voices = ('en-us+klatt6',)
train/SplitConfig.name = 'train'
train/SplitConfig.utterances = 24
train/SplitConfig.min_words = 1
train/SplitConfig.max_words = 3
test_short/SplitConfig.name = 'test_short'
test_short/SplitConfig.utterances = 3
test_short/SplitConfig.min_words = 2
test_short/SplitConfig.max_words = 2
test_short/SplitConfig.held_out = True
TranscriptionStage.thinker = @thinker_tiny()
TranscriptionStage.training = @ThinkerTrainingConfig()
ThinkerTrainingConfig.steps = 4
ThinkerTrainingConfig.batch_size = 4
ThinkerTrainingConfig.sequence_length = 256
ThinkerTrainingConfig.recording_frames = (320,)
ThinkerTrainingConfig.log_every = 2
ThinkerTrainingConfig.checkpoint_every = 2
"""

PICTURES = """
RenderedMediaConfig.sentences = ('nato',)
RenderedMediaConfig.splits = (@train/MediaSplitConfig(), @held_out/MediaSplitConfig())
RenderedMediaConfig.max_seconds = 5
train/MediaSplitConfig.name = 'train'
train/MediaSplitConfig.pictures = 4
train/MediaSplitConfig.clips = 8
train/MediaSplitConfig.questions = 2
held_out/MediaSplitConfig.name = 'held_out'
held_out/MediaSplitConfig.pictures = 1
held_out/MediaSplitConfig.clips = 3
held_out/MediaSplitConfig.held_out = True
"""

SEEING_BINDINGS = """
TrainConfig.stage = @SeeingStage()
SeeingStage.start_from = '{model}'
SeeingStage.media = @RenderedMediaConfig()
SeeingStage.training = @VisionTrainingConfig()
VisionTrainingConfig.steps = 2
VisionTrainingConfig.batch_size = 4
VisionTrainingConfig.log_every = 1
"""

MEDIA_BINDINGS = """
TrainConfig.stage = @MediaStage()
MediaStage.start_from = '{model}'
MediaStage.media = @RenderedMediaConfig()
MediaStage.training = @ThinkerTrainingConfig()
ThinkerTrainingConfig.steps = 2
ThinkerTrainingConfig.batch_size = 4
ThinkerTrainingConfig.sequence_length = 1536
ThinkerTrainingConfig.recording_frames = (640,)
ThinkerTrainingConfig.caption_weight = 1.0
ThinkerTrainingConfig.log_every = 1
"""


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=False,
    )


def are_equal(one, other) -> bool:
    try:
        chex.assert_trees_all_equal(one, other)
    except AssertionError:
        return False
    return True


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A gin file and the workdir of its run."""
    root = tmp_path_factory.mktemp("train")
    gin = root / "stage.gin"
    gin.write_text(BINDINGS)
    done = command("train", f"--gin_file={gin}", f"--workdir={root / 'work'}")
    assert done.returncode == 0, done.stderr
    assert "step 4/4" in done.stdout
    return gin, root / "work"


def test_a_trained_model_is_measured_on_every_test_split(trained, tmp_path):
    _, workdir = trained
    done = command("evaluate", "--task=asr", f"--checkpoint={workdir / 'model'}", f"--json={tmp_path / 'asr.json'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("test_short")
    (split,) = json.loads((tmp_path / "asr.json").read_text())["splits"].values()
    assert split["words"] == 6
    errors = split["substitutions"] + split["deletions"] + split["insertions"]
    assert split["wer"]["mean"] == pytest.approx(errors / 6)
    assert [len(item["reference"].split()) for item in split["sentences"]] == [2, 2, 2]


def test_a_thinker_that_hears_goes_on_to_pictures_and_clips(trained, tmp_path):
    _, heard = trained
    seeing, gin = tmp_path / "seeing.gin", tmp_path / "media.gin"
    seeing.write_text(PICTURES + SEEING_BINDINGS.format(model=heard / "model"))
    done = command("train", f"--gin_file={seeing}", f"--workdir={tmp_path / 'seeing'}")
    assert done.returncode == 0, done.stderr
    models = [load_thinker(directory / "model")[1] for directory in (heard, tmp_path / "seeing")]
    changed = [name for name in models[0] if not are_equal(models[0][name], models[1][name])]
    assert changed == ["vision_encoder"]
    gin.write_text(PICTURES + MEDIA_BINDINGS.format(model=tmp_path / "seeing" / "model"))
    done = command("train", f"--gin_file={gin}", f"--workdir={tmp_path / 'work'}")
    assert done.returncode == 0, done.stderr
    measured = command(
        "evaluate", "--task=media", f"--checkpoint={tmp_path / 'work' / 'model'}", f"--json={tmp_path / 'media.json'}"
    )
    assert measured.returncode == 0, measured.stderr
    found = json.loads((tmp_path / "media.json").read_text())["splits"]["held_out"]
    assert len(found["answers"]) == 1 + 3 * 3  # each clip with its sound, its pictures, both
    assert found["accuracies"]["pictures"]["questions"] == 1
    clips = [figures["questions"] for what, figures in found["accuracies"].items() if what.endswith("given both")]
    assert sum(clips) == 3
    nowhere = command(
        "train",
        f"--gin_file={gin}",
        f"--workdir={tmp_path / 'other'}",
        "--gin_bindings=MediaStage.start_from = 'nowhere'",
    )
    assert nowhere.returncode == 1
    assert "nowhere" in nowhere.stderr


def test_a_finished_stage_is_left_alone_and_another_one_is_refused(trained):
    gin, workdir = trained
    before = {path: path.stat().st_mtime_ns for path in sorted((workdir / "model").rglob("*"))}
    again = command("train", f"--gin_file={gin}", f"--workdir={workdir}")
    assert again.returncode == 0
    assert "there already" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in sorted((workdir / "model").rglob("*"))} == before
    other = command(
        "train", f"--gin_file={gin}", f"--workdir={workdir}", "--gin_bindings=ThinkerTrainingConfig.steps = 6"
    )
    assert other.returncode == 1
    assert other.stderr.count("\n") == 1
    assert "training.steps = 4" in other.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("train", ["--workdir=w"], "--gin_file is missing"),
        ("train", ["--gin_file=experiments/configs/thinker_cpu.gin"], "--workdir is missing"),
        ("evaluate", ["--task=asr"], "--checkpoint is missing"),
        ("evaluate", ["--task=asr", "--checkpoint=nowhere"], "nowhere"),
    ],
)
def test_what_is_missing_is_named_in_one_line(module, arguments, message):
    done = command(module, *arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
