"""`python -m experiments.talk`: questions about a wav, a png and an mp4, answered in text; clear errors."""

import json
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from safetensors.numpy import load_file, save_file

from data_pipelines.conversations import ReadingConfig, count_conversation
from qomni_jax.interop.__main__ import main
from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.special_tokens import AUDIO_END, AUDIO_PAD, AUDIO_START, IMAGE_PAD, VIDEO_PAD
from tests.data_pipelines.media.media_files import tones, write_sound, write_video
from tests.interop.checkpoint_files import GOLDENS, config_of
from tests.thinker.thinker_files import TOKENIZER, own_stored, own_thinker


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
    PIL.Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(directory / "picture.png")
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
    assert main(["convert", f"--checkpoint={directory}", f"--out={tmp_path / 'ours'}"]) == 0
    done = talk(tmp_path / "ours", *arguments)
    assert done.returncode == 0, done.stderr
    converted = json.loads((tmp_path / "answer.json").read_text())
    assert (converted["text"], converted["tokens"]) == (answer["text"], answer["tokens"])


@pytest.mark.e2e
def test_a_thinker_of_the_systems_own_kind_is_asked_in_its_own_layout(directory, tmp_path):
    """6.25 audio tokens a second: 8 of the recording, 7 of the video's sound."""
    media = [f"--{kind}={directory / name}" for kind, name in MEDIA.items()]
    arguments = [*media, "--text=what was said?", "--max_new_tokens=4", f"--json={tmp_path / 'answer.json'}"]
    path = own_thinker(tmp_path / "own")
    done = talk(path, *arguments)
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "answer.json").read_text())
    stored = own_stored()
    files = (Image(str(directory / "picture.png")), Audio(str(directory / "sound.wav")))
    asked = (*files, Video(str(directory / "video.mp4"), sound=True), Text("what was said?"))
    reading = ReadingConfig(stored.config.audio, stored.features, stored.image, sequence=stored.sequence)
    count = count_conversation([Turn("user", asked)], TOKENIZER, reading, reply=True)
    assert answer["tokens"] == count._asdict()
    assert count.audio == 8 + 7
    (path / "tokenizer.json").unlink()
    done = talk(path, "--text=x")
    assert done.returncode == 1
    assert "tokenizer.json: accepted is a tokenizer.json" in done.stderr.splitlines()[-1]


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
