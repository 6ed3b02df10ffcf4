"""A whole Qwen3-Omni as it is released: the tiny Thinker of the goldens, a random Talker, a random Code2Wav."""

import pathlib

import numpy as np
from safetensors.numpy import load_file

from tests.interop.checkpoint_files import GOLDENS, config_of, write
from tests.interop.released_codec import CONFIGS as CODECS
from tests.interop.released_codec import random_tensors as random_codec
from tests.interop.released_talker import TALKER, random_talker

THINKER, CODEC = "thinker_qwen3_omni", "qwen3_omni_code2wav"
# Ids of the tiny Thinker: turns, who speaks, what the Talker's prompt is made of.
START, END, LINE, SYSTEM, USER, ASSISTANT, PAD, TTS_BOS, TTS_EOS = range(140, 149)
IDS = {"im_start": START, "user": USER, "assistant": ASSISTANT}
IDS |= {"tts_pad": PAD, "tts_bos": TTS_BOS, "tts_eos": TTS_EOS}
CONFIG = {
    "model_type": "qwen3_omni_moe",
    "dtype": "float32",
    "thinker_config": config_of(THINKER),
    "talker_config": TALKER,
    "code2wav_config": CODECS[CODEC],
    **{f"{name}_token_id": index for name, index in IDS.items()},
}


def whole_tensors() -> dict[str, np.ndarray]:
    """Of all parts, experts one by one."""
    parts = {"thinker": load_file(GOLDENS / THINKER / "model.safetensors"), "talker": random_talker()}
    parts["code2wav"] = random_codec(CODEC)
    return {f"{part}.{name}": value for part, inner in parts.items() for name, value in inner.items()}


def write_whole(directory: pathlib.Path, shards: int = 1) -> pathlib.Path:
    """The checkpoint, in one file or in several with an index."""
    return write(directory, CONFIG, whole_tensors(), shards)
