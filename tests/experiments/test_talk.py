"""`python -m experiments.talk`: questions about a wav, a png and an mp4, answered in text; clear errors."""

import json
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
from safetensors.numpy import load_file, save_file

from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.special_tokens import AUDIO_END, AUDIO_PAD, AUDIO_START, IMAGE_PAD, VIDEO_PAD
from tests.data_pipelines.media.media_files import tones, write_sound, write_video
from tests.interop.checkpoint_files import GOLDENS, config_of


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A released Qwen3-Omni Thinker, tiny, with a tokenizer of its own, and media to ask about."""
    directory = tmp_path_factory.mktemp("talk")
    tokenizer = ChatTokenizer.train(["what is in this picture? what was said?"] * 3, 300)
    tokenizer.save(directory / "tokenizer.json")
    config = config_of("thinker_qwen3_omni")
    config["text_config"]["vocab_size"] = tokenizer.vocab_size
    fields = {"audio_token_id": AUDIO_PAD, "image_token_id": IMAGE_PAD, "video_token_id": VIDEO_PAD}
    fields |= {"audio_start_token_id": AUDIO_START, "audio_end_token_id": AUDIO_END}
    config |= {name: tokenizer.special(token) for name, token in fields.items()}
    (directory / "config.json").write_text(json.dumps(config))
    tensors = load_file(GOLDENS / "thinker_qwen3_omni" / "model.safetensors")
    rng = np.random.default_rng(0)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = rng.standard_normal((tokenizer.vocab_size, tensors[name].shape[1])).astype(np.float32)
    save_file(tensors, directory / "model.safetensors")
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(directory / "picture.png")
    write_sound(directory / "sound.wav", "PCM_16", tones(20_000, 16_000), 16_000, "mono")
    write_video(directory / "video.mp4", range(0, 1000, 100), sound=("aac", 48_000, 0))
    return directory


def talk(directory, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "experiments.talk", f"--checkpoint={directory}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)


@pytest.mark.e2e
def test_a_turn_about_a_wav_a_png_and_an_mp4(directory, tmp_path):
    media = [f"--{kind}={directory / name}" for kind, name in MEDIA.items()]
    arguments = [*media, "--text=what was said?", "--max_new_tokens=8", f"--json={tmp_path / 'answer.json'}"]
    done = talk(directory, *arguments)
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["text"] in done.stdout
    assert answer["tokens"]["image"] == 4
    assert min(answer["tokens"].values()) > 0
    assert 0 < answer["first_text_seconds"] <= answer["seconds"]


MEDIA = {"image": "picture.png", "audio": "sound.wav", "video": "video.mp4"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to answer: accepted is --text"),
        (["--text=x", "--top_p=2"], "top_p = 2.0: accepted is a number above 0"),
        (["--image=absent.png"], "'absent.png' cannot be read"),
    ],
)
def test_what_cannot_be_answered_is_one_line(directory, arguments, message):
    done = talk(directory, *arguments)
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert done.stderr.count("talk: ") == 1
