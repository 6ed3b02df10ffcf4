"""A JSON Lines file of conversations with media of every kind beside it."""

import json
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from tests.data_pipelines.media.media_files import tones, write_sound, write_video


def write_jsonl(directory: pathlib.Path, lines: list[Any]) -> pathlib.Path:
    source = directory / "data.jsonl"
    source.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return source


def asked(*parts: dict, answer: str = "Yes.") -> list[dict]:
    return [{"role": "user", "content": list(parts)}, {"role": "assistant", "content": answer}]


def write_source(directory: pathlib.Path) -> pathlib.Path:
    """Eight conversations, the last two of them the split test, and a blank line."""
    (directory / "media").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(directory / "media/picture.png")
    write_sound(directory / "media/sound.flac", "flac", tones(24_000, 24_000), 24_000, "mono")
    write_video(directory / "media/video.mp4", range(0, 1000, 100), sound=("aac", 48_000, 0))
    picture, sound = {"image": "media/picture.png"}, {"audio": "media/sound.flac"}
    video = {"video": "media/video.mp4", "sound": True}
    call = {"role": "assistant", "tool_calls": [{"name": "look", "arguments": {"at": "ä"}}]}
    return write_jsonl(
        directory,
        [
            {"id": "seen", "turns": asked(picture, {"text": "What?"}), "metadata": {"needs": "image", "n": 1.5}},
            {"turns": asked(sound)},
            "",
            {"turns": asked({"text": "Both?"}, video, picture)},
            {"turns": asked({"video": "media/video.mp4"})},
            {"turns": [{"role": "system", "content": "Call."}, {"role": "user", "content": "Now."}, call]},
            {"turns": asked(sound, picture, answer="</tool_call> über")},
            {"turns": asked(picture), "split": "test"},
            {"turns": asked(picture, picture), "split": "test"},
        ],
    )
