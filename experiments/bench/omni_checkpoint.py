"""A seeded random Qwen3-Omni of tiny size, written as the release is: what both sides of the bench `talker` read.

2.6 million parameters: a Thinker of 4 layers with both encoders, a Talker of 3, a code predictor of 2 over 4 codebooks,
and Code2Wav with 2. Rows of the heads that would end an answer or its speech are zero: they are never the likeliest.
"""

import json
import math
import pathlib
from typing import Any

import numpy as np

from qomni_jax.interop.codec_families import CODE2WAV, parse_codec
from qomni_jax.interop.codec_keys import codec_key_map
from qomni_jax.interop.families import FAMILIES
from qomni_jax.interop.key_map import Layout
from qomni_jax.interop.released import SINGLE
from qomni_jax.interop.safetensors_file import TensorInfo, write
from qomni_jax.interop.talker_families import parse_talker
from qomni_jax.interop.talker_keys import talker_key_map
from qomni_jax.interop.thinker_form import ThinkerForm, read_thinker_config, thinker_part

IM_START, IM_END, USER, ASSISTANT, NEWLINE = 410, 411, 413, 414, 415
AUDIO, AUDIO_START, AUDIO_END = 400, 405, 406
CODEC_EOS = 1026
_WIDTH, _HEADS = 64, {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "rms_norm_eps": 1e-6}
_MEDIA = {
    "audio_token_id": AUDIO,
    "image_token_id": 401,
    "video_token_id": 402,
    "vision_start_token_id": 403,
    "audio_start_token_id": AUDIO_START,
    "audio_end_token_id": AUDIO_END,
    "position_id_per_seconds": 13,
    "seconds_per_chunk": 2,
}
_POSITIONS = {"rope_type": "default", "rope_theta": 1e6}
_SECTIONS = _POSITIONS | {"mrope_section": [6, 5, 5], "interleaved": True}


def config() -> dict[str, Any]:
    """config.json."""
    return {
        "model_type": "qwen3_omni_moe",
        "architectures": ["Qwen3OmniMoeForConditionalGeneration"],
        "dtype": "float32",
        "enable_audio_output": True,
        "im_start_token_id": IM_START,
        "im_end_token_id": IM_END,
        "system_token_id": 412,
        "user_token_id": USER,
        "assistant_token_id": ASSISTANT,
        "tts_pad_token_id": 416,
        "tts_bos_token_id": 417,
        "tts_eos_token_id": 418,
        "thinker_config": _thinker(),
        "talker_config": _talker(),
        "code2wav_config": _code2wav(),
    }


def write_checkpoint(directory: pathlib.Path, seed: int = 0) -> pathlib.Path:
    """Writes config.json and the weights into a directory that exists, and returns it."""
    (directory / "config.json").write_text(json.dumps(config()))
    tensors = random_tensors(seed)
    infos = {name: TensorInfo("F32", value.shape) for name, value in tensors.items()}
    write(directory / SINGLE, infos, tensors.values())
    return directory


def random_tensors(seed: int) -> dict[str, np.ndarray]:
    """Every tensor of the release, matrices with variance 1 / inputs and the heads' logits spread."""
    rng = np.random.default_rng(seed)
    tensors = {name: _draw(name, shape, rng) for name, shape in _shapes().items()}
    for name, row in (("talker.codec_head.weight", CODEC_EOS), ("thinker.lm_head.weight", IM_END)):
        tensors[name][row] = 0
    return tensors


def _shapes() -> dict[str, tuple[int, ...]]:
    """Released name -> shape."""
    family = next(family for family in FAMILIES if family.outer_type == "qwen3_omni_moe")
    layout = Layout("thinker.model.", experts="per_expert")
    form = ThinkerForm(family, layout, visual="thinker.visual.", audio="thinker.audio_tower.")
    thinker = read_thinker_config(thinker_part(config()), "config.json").config
    rules = form.rules(thinker)
    rules |= talker_key_map(parse_talker(config()).config, "talker.")
    rules |= codec_key_map(parse_codec(config()).config, CODE2WAV, "code2wav.")
    return {name: rule.shape for name, rule in rules.items()}


def _draw(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    value = rng.standard_normal(shape, np.float32)
    if "embed" in name:
        return value
    if len(shape) > 1:
        return value * np.float32((4.0 if "head" in name else 1.0) / math.sqrt(math.prod(shape[1:])))
    around = 1.0 if "norm" in name and name.endswith("weight") else 0.1 if "scale" in name or "gamma" in name else 0.0
    return np.float32(0.1) * value + np.float32(around)


def _thinker() -> dict[str, Any]:
    return {
        "model_type": "qwen3_omni_moe_thinker",
        **_MEDIA,
        "user_token_id": USER,
        "text_config": {
            "model_type": "qwen3_omni_moe_text",
            **_HEADS,
            "hidden_act": "silu",
            "hidden_size": _WIDTH,
            "intermediate_size": 96,
            "moe_intermediate_size": 32,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "num_hidden_layers": 4,
            "max_position_embeddings": 4096,
            "vocab_size": 512,
            "rope_parameters": _SECTIONS,
        },
        "audio_config": {
            "model_type": "qwen3_omni_moe_audio_encoder",
            "activation_function": "gelu",
            "conv_chunksize": 500,
            "d_model": _WIDTH,
            "downsample_hidden_size": 16,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 96,
            "encoder_layers": 2,
            "max_source_positions": 1500,
            "n_window": 50,
            "n_window_infer": 800,
            "num_mel_bins": 128,
            "output_dim": _WIDTH,
            "scale_embedding": False,
        },
        "vision_config": {
            "model_type": "qwen3_omni_moe_vision_encoder",
            "deepstack_visual_indexes": [0, 1],
            "depth": 2,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": _WIDTH,
            "in_channels": 3,
            "intermediate_size": 96,
            "num_heads": 4,
            "num_position_embeddings": 64,
            "out_hidden_size": _WIDTH,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }


def _talker() -> dict[str, Any]:
    return {
        **_MEDIA,
        "accept_hidden_layer": 2,
        "spatial_merge_size": 2,
        "num_code_groups": 4,
        "thinker_hidden_size": _WIDTH,
        "codec_bos_id": 1025,
        "codec_eos_token_id": CODEC_EOS,
        "codec_pad_id": 1027,
        "codec_nothink_id": 1028,
        "codec_think_bos_id": 1029,
        "codec_think_eos_id": 1030,
        "speaker_id": {"ethan": 1031, "chelsie": 1032},
        "text_config": {
            "model_type": "qwen3_omni_moe_talker_text",
            **_HEADS,
            "hidden_act": "silu",
            "hidden_size": _WIDTH,
            "intermediate_size": 80,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 40,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "num_hidden_layers": 3,
            "max_position_embeddings": 8192,
            "vocab_size": 2048,
            "rope_parameters": _SECTIONS,
        },
        "code_predictor_config": {
            "model_type": "qwen3_omni_moe_talker_code_predictor",
            **_HEADS,
            "hidden_act": "silu",
            "hidden_size": _WIDTH,
            "intermediate_size": 96,
            "num_code_groups": 4,
            "num_hidden_layers": 2,
            "layer_types": ["full_attention"] * 2,
            "max_position_embeddings": 256,
            "vocab_size": 1024,
            "rope_parameters": _POSITIONS,
        },
    }


def _code2wav() -> dict[str, Any]:
    return {
        "codebook_size": 1024,
        "decoder_dim": 96,
        "hidden_act": "silu",
        "hidden_size": _WIDTH,
        "intermediate_size": 96,
        "layer_scale_initial_scale": 0.01,
        "max_position_embeddings": 8000,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_hidden_layers": 2,
        "num_quantizers": 4,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "sliding_window": 8,
        "upsample_rates": [8, 5, 4, 3],
        "upsampling_ratios": [2, 2],
    }
