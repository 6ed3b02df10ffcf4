"""A whole Qwen3-Omni on disk for the tests: tiny, random, with a tokenizer; it writes words, lone marks and spaces."""

import pathlib

import numpy as np
from safetensors.numpy import load_file

from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.special_tokens import (
    AUDIO_END,
    AUDIO_PAD,
    AUDIO_START,
    IM_START,
    IMAGE_PAD,
    TTS_BEGIN,
    TTS_END,
    TTS_PAD,
    VIDEO_PAD,
)
from tests.interop.checkpoint_files import GOLDENS, config_of, write
from tests.interop.released_codec import CONFIGS as CODECS
from tests.interop.released_codec import random_tensors as random_codec
from tests.interop.released_talker import TALKER, random_talker

THINKER, CODEC = "thinker_qwen3_omni", "qwen3_omni_code2wav"
SAMPLES_PER_FRAME, DELAY = 12, 8
WRITTEN = [*"abcdefghijklmnopqrstuvwxyz", " ", "*", "."]


def speaking_checkpoint(directory: pathlib.Path) -> pathlib.Path:
    """Writes one. Its Thinker gives every token but those of `WRITTEN` the logit 0."""
    tokenizer = ChatTokenizer.train(["user\nassistant\nwhat was said?"] * 3, 300)
    config = config_of(THINKER)
    config["text_config"]["vocab_size"] = tokenizer.vocab_size
    fields = {"audio_token_id": AUDIO_PAD, "image_token_id": IMAGE_PAD, "video_token_id": VIDEO_PAD}
    fields |= {"audio_start_token_id": AUDIO_START, "audio_end_token_id": AUDIO_END}
    config |= {name: tokenizer.special(token) for name, token in fields.items()}
    shared = {"im_start": IM_START, "tts_pad": TTS_PAD, "tts_bos": TTS_BEGIN, "tts_eos": TTS_END}
    ids = {name: tokenizer.special(token) for name, token in shared.items()}
    for role in ("user", "assistant"):
        (ids[role],) = tokenizer.encode_text(role).tolist()
    thinker = load_file(GOLDENS / THINKER / "model.safetensors")
    rng = np.random.default_rng(0)
    shape = tokenizer.vocab_size, thinker["lm_head.weight"].shape[1]
    thinker["model.embed_tokens.weight"], head = rng.standard_normal((2, *shape)).astype(np.float32)
    written = [int(tokenizer.encode_text(text)[0]) for text in WRITTEN]
    thinker["lm_head.weight"] = np.zeros_like(head)
    thinker["lm_head.weight"][written] = head[written]
    whole = {
        "model_type": "qwen3_omni_moe",
        "dtype": "float32",
        "thinker_config": config,
        "talker_config": TALKER,
        "code2wav_config": CODECS[CODEC],
        **{f"{name}_token_id": index for name, index in ids.items()},
    }
    parts = {"thinker": thinker, "talker": random_talker(), "code2wav": random_codec(CODEC)}
    tensors = {f"{part}.{name}": value for part, inner in parts.items() for name, value in inner.items()}
    write(directory, whole, tensors)
    tokenizer.save(directory / "tokenizer.json")
    return directory
