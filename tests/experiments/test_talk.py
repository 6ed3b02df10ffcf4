"""`python -m experiments.talk`: questions about a wav, a png and an mp4, answered in text and speech; clear errors."""

import json
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from safetensors.numpy import load_file, save_file
import soundfile

from data_pipelines.conversations import ReadingConfig, count_conversation
from experiments.talk.question import Asked, Question
from experiments.talk.qwen3_omni import SpokenAnswers, Voice
from experiments.talk.turn import take_turn
from experiments.talk.wav import WavStream
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.interop.__main__ import main
from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.special_tokens import AUDIO_END, AUDIO_PAD, AUDIO_START, IMAGE_PAD, VIDEO_PAD
from tests.data_pipelines.media.media_files import tones, write_sound, write_video
from tests.experiments.speaking_files import DELAY, SAMPLES_PER_FRAME, speaking_checkpoint
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
        (["--text=x", "--out=answer.mp3"], "--out=answer.mp3: accepted is a file that ends in .wav"),
        (["--text=x", "--out=absent/x.wav"], "--out=absent/x.wav: accepted is a file in a directory that is there"),
    ],
)
def test_what_cannot_be_answered_is_one_line(directory, arguments, message):
    done = talk(directory, *arguments)
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert done.stderr.count("talk: ") == 1


@pytest.fixture(scope="module")
def speaking(tmp_path_factory):
    return speaking_checkpoint(tmp_path_factory.mktemp("speaking"))


@pytest.mark.e2e
def test_an_answer_is_spoken_while_it_is_written(directory, speaking, tmp_path):
    """About a recording; the answer is as long as it may be, its speech too."""
    asked = [f"--audio={directory / 'sound.wav'}", "--text=what was said?", "--max_new_tokens=12"]
    spoken = ["--warmup", "--talker_temperature=0", "--max_frames=40", f"--out={tmp_path / 'answer.wav'}"]
    done = talk(speaking, *asked, *spoken, f"--json={tmp_path / 'answer.json'}")
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "answer.json").read_text())
    speech = answer["speech"]
    assert len(answer["text"]) == 12
    assert answer["text"] in done.stdout
    samples, rate = soundfile.read(tmp_path / "answer.wav")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.json", "answer.wav"]
    assert (len(samples), rate) == (speech["frames"] * SAMPLES_PER_FRAME - DELAY, 24_000)
    assert np.std(samples) > 0
    assert (speech["frames"], speech["reason"]) == (40, "budget")
    assert speech["seconds"] == len(samples) / rate
    stages = ("encode", "thinker_first_token", "text_lead", "talker_first_frame", "codec")
    parts = [speech[f"{stage}_seconds"] for stage in stages]
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(speech["first_packet_seconds"])
    assert speech["first_packet_seconds"] < answer["seconds"]
    assert speech["real_time_factor"] > 0
    assert "first packet after" in done.stdout
    assert "longer than --max_frames" in done.stdout


def test_an_answer_that_is_all_code_is_printed_and_not_spoken(speaking, tmp_path):
    model = SpokenAnswers(str(speaking), SamplingConfig(), 4, Voice(max_frames=8))
    model.tokenizer = Silenced(model.tokenizer)
    question = Question(Asked(text="what?"), model.stored, model.tokenizer)
    with WavStream(tmp_path / "answer.wav", model.sample_rate) as sound:
        found = take_turn(model, question, sound, warm_up=False)
    assert found["text"].startswith("```")
    assert found["speech"]["frames"] == 0
    assert found["speech"]["reason"] is found["speech"]["first_packet_seconds"] is None
    assert soundfile.info(tmp_path / "answer.wav").frames == 0


class Silenced:
    """A tokenizer whose texts are code."""

    def __init__(self, tokenizer: ChatTokenizer):
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def decode(self, ids):
        return "```\n" + self._tokenizer.decode(ids).replace("`", "")


def test_what_cannot_speak_is_one_line(directory, speaking):
    with pytest.raises(ValueError, match=r"has no Talker: accepted with --out is a whole Qwen3-Omni"):
        SpokenAnswers(str(directory), SamplingConfig(), 4, Voice())
    with pytest.raises(ValueError, match=r"voice 'Nobody': accepted is one of chelsie, ethan"):
        SpokenAnswers(str(speaking), SamplingConfig(), 4, Voice("Nobody"))
