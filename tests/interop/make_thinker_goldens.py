"""Makes `tests/goldens/thinker_*` with the reference: `python -m tests.interop.make_thinker_goldens`, extra `peer`.

Two tiny Thinkers with random weights, one prompt each: Qwen3.5 with an image and a video, Qwen3-Omni with a recording
besides, and its positions of a video with sound. Every parameter is random, so that none can be left out unnoticed.
"""

import json
import pathlib

import numpy as np
from safetensors.numpy import save_file
import torch
from transformers import AutoConfig
from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import Qwen3_5MoeForConditionalGeneration
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeThinkerForConditionalGeneration

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "goldens"
IMAGE, VIDEO, NEW_TOKENS = (1, 4, 6), (2, 4, 4), 6
TEXT = {
    "vocab_size": 160,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
VISION = {
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 4,
    "intermediate_size": 48,
    "num_position_embeddings": 36,
    "out_hidden_size": 32,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
QWEN3_5 = {
    "model_type": "qwen3_5_moe",
    "text_config": {
        **TEXT,
        "model_type": "qwen3_5_moe_text",
        "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "full_attention"],
        "head_dim": 32,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "shared_expert_intermediate_size": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.5}
        | {"mrope_section": [3, 3, 2], "mrope_interleaved": True},
    },
    "vision_config": {**VISION, "model_type": "qwen3_5_moe_vision"},
    "image_token_id": 150,
    "video_token_id": 151,
    "vision_start_token_id": 152,
    "vision_end_token_id": 153,
}
QWEN3_OMNI = {
    "model_type": "qwen3_omni_moe_thinker",
    "text_config": {
        **TEXT,
        "model_type": "qwen3_omni_moe_text",
        "num_hidden_layers": 3,
        "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 2, 2], "interleaved": True},
    },
    "vision_config": {**VISION, "model_type": "qwen3_omni_moe_vision_encoder", "deepstack_visual_indexes": [0, 1]},
    "audio_config": {
        "model_type": "qwen3_omni_moe_audio_encoder",
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "downsample_hidden_size": 8,
        "output_dim": 32,
        "num_mel_bins": 128,
    },
    "audio_token_id": 154,
    "image_token_id": 150,
    "video_token_id": 151,
    "vision_start_token_id": 152,
    "vision_end_token_id": 153,
    "audio_start_token_id": 155,
    "audio_end_token_id": 156,
    "position_id_per_seconds": 13,
    "user_token_id": 157,
}
FRAMES, AUDIO_TOKENS = 117, 16


def model_of(kind: type, config: dict, seed: int) -> torch.nn.Module:
    """The reference's model with every parameter random: matrices of variance 1 / inputs, the rest near its use."""
    torch.manual_seed(seed)
    model = kind(AutoConfig.for_model(**config, dtype="float32")).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "embed" not in name:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            elif parameter.ndim >= 2:
                parameter.normal_(0, 1)
            elif name.endswith("A_log"):
                parameter.uniform_(-1, 1)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def media(rng: np.random.Generator) -> dict[str, np.ndarray]:
    def patches(grid: tuple[int, int, int]) -> np.ndarray:
        return rng.standard_normal((np.prod(grid), 1536)).astype(np.float32)

    return {
        "pixel_values": patches(IMAGE),
        "image_grid_thw": np.array([IMAGE]),
        "pixel_values_videos": patches(VIDEO),
        "video_grid_thw": np.array([VIDEO]),
    }


def write(name: str, model: torch.nn.Module, inputs: dict[str, np.ndarray], found: dict[str, torch.Tensor]) -> None:
    directory = GOLDENS / name
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    kept = {key: value.detach().numpy() for key, value in found.items()}
    save_file({k: np.ascontiguousarray(v) for k, v in {**inputs, **kept}.items()}, directory / "golden.safetensors")
    info = {"reference": "transformers 5.23.0", "made_by": "python -m tests.interop.make_thinker_goldens"}
    (directory / "info.json").write_text(json.dumps(info, indent=1) + "\n")


def run(model: torch.nn.Module, inputs: dict[str, np.ndarray], **more: object) -> dict[str, torch.Tensor]:
    tensors = {key: torch.from_numpy(value) for key, value in inputs.items()}
    with torch.no_grad():
        out = model(**tensors, output_hidden_states=True, output_router_logits=True, **more)
        greedy = model.generate(**tensors, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=0)
    hidden = {f"hidden_{n}": value for n, value in enumerate(out.hidden_states or ())}
    return {"logits": out.logits, "aux_loss": out.aux_loss.reshape(1), "greedy": greedy, **hidden}


def qwen3_5() -> None:
    model = model_of(Qwen3_5MoeForConditionalGeneration, QWEN3_5, 0)
    frames = [f for n in range(VIDEO[0]) for f in (20 + n, 21, 152, *[151] * 4, 153)]
    ids = [1, 2, 3, 152, *[150] * 6, 153, 7, 8, *frames, 30, 31]
    inputs = {"input_ids": np.array([ids]), **media(np.random.default_rng(0))}
    inputs["mm_token_type_ids"] = np.array([[1 if i == 150 else 2 if i == 151 else 0 for i in ids]], np.int32)
    found = run(model, inputs)
    positions, delta = model.model.get_rope_index(
        **{
            k: torch.from_numpy(inputs[k])
            for k in ("input_ids", "mm_token_type_ids", "image_grid_thw", "video_grid_thw")
        }
    )
    write("thinker_qwen3_5", model, inputs, {**found, "position_ids": positions, "rope_deltas": delta})


def qwen3_omni() -> None:
    model = model_of(Qwen3OmniMoeThinkerForConditionalGeneration, QWEN3_OMNI, 1)
    rng = np.random.default_rng(1)
    ids = [1, 2, 155, *[154] * AUDIO_TOKENS, 156, 152, *[150] * 6, 153, 152, *[151] * 8, 153, 5, 6]
    inputs = {
        "input_ids": np.array([ids]),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        **media(rng),
        "input_features": rng.standard_normal((1, 128, FRAMES)).astype(np.float32),
        "feature_attention_mask": np.ones((1, FRAMES), np.int64),
        "video_second_per_grid": np.array([0.7], np.float32),
    }
    found = run(model, inputs)
    lengths = torch.tensor([FRAMES])

    def positions(ids: np.ndarray, **grids: object) -> tuple[torch.Tensor, torch.Tensor]:
        return model.get_rope_index(
            torch.from_numpy(ids),
            attention_mask=torch.ones(ids.shape, dtype=torch.long),
            audio_seqlens=lengths,
            second_per_grids=torch.from_numpy(inputs["video_second_per_grid"]),
            video_grid_thw=torch.from_numpy(inputs["video_grid_thw"]),
            **grids,
        )

    where, delta = positions(inputs["input_ids"], image_grid_thw=torch.from_numpy(inputs["image_grid_thw"]))
    merged = np.array([[1, 2, 152, 155, *[151] * 8, *[154] * AUDIO_TOKENS, 156, 153, 3]])
    merged_where, merged_delta = positions(merged, use_audio_in_video=True)
    inputs["aiv_input_ids"] = merged
    found |= {"position_ids": where, "rope_deltas": delta}
    found |= {"aiv_position_ids": merged_where, "aiv_rope_deltas": merged_delta}
    write("thinker_qwen3_omni", model, inputs, found)


if __name__ == "__main__":
    qwen3_5()
    qwen3_omni()
