"""The voice stage and its measures, as commands: from nothing to figures at a size of a minute."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.speech import Speaker, SpeechRequest
from qomni_jax.talker.storage import open_talker
from qomni_jax.talker.voice_prompt import make_voice

pytestmark = pytest.mark.e2e

BINDINGS = """
TrainConfig.stage = @VoiceStage()
VoiceStage.corpus = @CorpusConfig()
CorpusConfig.splits = (@train/SplitConfig(), @sentences/SplitConfig(), @voices/SplitConfig())
SplitConfig.min_words = 2
SplitConfig.max_words = 2
SplitConfig.min_rate = 200
SplitConfig.max_rate = 270
SplitConfig.min_level = -30
SplitConfig.max_level = -18
SplitConfig.voices = ('en-us+klatt6', 'en-us+adam')
train/SplitConfig.name = 'train'
train/SplitConfig.utterances = 40
sentences/SplitConfig.name = 'test_sentences'
sentences/SplitConfig.utterances = 8
sentences/SplitConfig.held_out = True
voices/SplitConfig.name = 'test_voices'
voices/SplitConfig.utterances = 12
voices/SplitConfig.held_out = True
voices/SplitConfig.voices = ('en-us+klatt4', 'en-us+f5')
VoiceStage.codec = @CodecConfig()
CodecConfig.log_mel = @LogMelConfig()
LogMelConfig.num_mels = 20
CodecConfig.rvq = @RVQConfig()
RVQConfig.latent_dim = 16
RVQConfig.num_codebooks = 2
RVQConfig.codebook_size = 16
CodecConfig.vocoder = @VocoderConfig()
VocoderConfig.width = 16
VocoderConfig.num_blocks = 1
VoiceStage.codec_training = @CodecTrainingConfig()
CodecTrainingConfig.utterances = 16
CodecTrainingConfig.steps = 2
VoiceStage.talker = @talker_tiny()
VoiceStage.prompts = @VoicePromptConfig()
VoicePromptConfig.min_seconds = 0.5
VoicePromptConfig.max_seconds = 2.0
VoicePromptConfig.max_steps = 56
VoiceStage.vocab_size = 420
VoiceStage.max_text = 16
VoiceStage.training = @TalkerTrainingConfig()
TalkerTrainingConfig.steps = 4
TalkerTrainingConfig.batch_size = 4
TalkerTrainingConfig.log_every = 2
TalkerTrainingConfig.checkpoint_every = 2
"""


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A gin file and the workdir of its run."""
    root = tmp_path_factory.mktemp("voice")
    gin = root / "stage.gin"
    gin.write_text(BINDINGS)
    done = command("train", f"--gin_file={gin}", f"--workdir={root / 'work'}")
    assert done.returncode == 0, done.stderr
    assert "step 4/4" in done.stdout
    return gin, root / "work"


def test_the_model_speaks_from_its_directory_alone(trained, tmp_path):
    _, workdir = trained
    os.rename(workdir / "model", tmp_path / "model")
    try:
        stored = open_talker(tmp_path / "model")
        audio = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) / 10
        voice = make_voice(stored, audio=audio, transcript="alpha", style="slow")
        request = SpeechRequest(voice.prompt, stored.tokenizer.encode("bravo"), voice.rate)
        (said,) = Speaker.of(stored, SamplingConfig()).speak([request], batch_size=1)
        assert len(stored.codec.decode_codes([said.codes])[0]) == 1280 * len(said.codes)
    finally:
        os.rename(tmp_path / "model", workdir / "model")


def test_a_finished_stage_is_left_alone_and_another_one_is_refused(trained):
    gin, workdir = trained
    again = command("train", f"--gin_file={gin}", f"--workdir={workdir}")
    assert again.returncode == 0
    assert "there already" in again.stdout
    other = command("train", f"--gin_file={gin}", f"--workdir={workdir}", "--gin_bindings=VoiceStage.max_text = 17")
    assert other.returncode == 1
    assert other.stderr.count("\n") == 1
    assert "max_text = 16" in other.stderr


def test_every_way_of_saying_is_measured(trained, tmp_path):
    _, workdir = trained
    done = command(
        "evaluate",
        "--task=voice",
        f"--checkpoint={workdir / 'model'}",
        f"--json={tmp_path / 'voice.json'}",
        "--clones=2",
        "--styled=1",
        "--encoder_steps=2",
    )
    assert done.returncode == 0, done.stderr
    assert "equal error rate" in done.stdout
    found = json.loads((tmp_path / "voice.json").read_text())
    counts = {name: figures["sentences"] for name, figures in found["conditions"].items()}
    plain = dict.fromkeys(("natural", "resynthesis", "no prompt", "reference"), 4)
    assert counts == {**plain, "style": 12, "style + reference": 12}
    assert found["speaker_encoder"]["voices"] == 2
    for figures in found["conditions"].values():
        for share in ("less_similar", "less_similar_held_out"):
            assert 0 <= figures[share]["low"] <= figures[share]["mean"] <= figures[share]["high"] <= 1
    for condition in ("style", "style + reference"):
        assert {name: entry["cases"] for name, entry in found["styles"][condition].items()} == {
            "rate": 2,
            "pitch": 2,
            "level": 2,
        }
    assert (workdir / "speaker_encoder" / "config.json").is_file()


def test_what_is_missing_is_named_in_one_line():
    done = command("evaluate", "--task=voice", "--checkpoint=nowhere")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nowhere" in done.stderr
