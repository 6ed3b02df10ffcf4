"""Whole Thinkers out of released checkpoints: prompts with media give what the reference gives."""

import json
import shutil

import pytest
from safetensors.numpy import load_file, save_file

from qomni_jax import sizes
from qomni_jax.interop.__main__ import main
from qomni_jax.interop.families import parse_config
from qomni_jax.interop.thinker_model import open_thinker
from qomni_jax.storage.errors import CheckpointError
from tests.interop.checkpoint_files import GOLDENS, config_of

COMPUTED = {
    "thinker_qwen3_5": {"logits", "aux_loss", "greedy", "position_ids", "rope_deltas"},
    "thinker_qwen3_omni": {"logits", "aux_loss", "greedy", "position_ids", "rope_deltas", "aiv_position_ids"},
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_prompt_with_media_in_every_tensor(name, tmp_path):
    files = [f"--checkpoint={GOLDENS / name}", f"--golden={GOLDENS / name / 'golden.safetensors'}"]
    assert main(["verify", *files, f"--json={tmp_path / 'report.json'}"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["skipped"] == []
    computed = {key for key, row in report["tensors"].items() if not row.get("input")}
    assert computed >= COMPUTED[name] | {"hidden_0", "hidden_1", "hidden_2"}


def test_the_thinker_inside_a_whole_qwen3_omni(tmp_path):
    """Its names have `thinker.` before them, and Talker and codec are left alone."""
    name = "thinker_qwen3_omni"
    tensors = load_file(GOLDENS / name / "model.safetensors")
    whole = {f"thinker.{key}": value for key, value in tensors.items()}
    whole["talker.codec_head.weight"] = whole["code2wav.code_embedding.weight"] = tensors["model.norm.weight"][None]
    config = {"model_type": "qwen3_omni_moe", "thinker_config": config_of(name), "dtype": "float32"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(whole, tmp_path / "model.safetensors")
    model, parameters = open_thinker([tmp_path])
    alone, expected = open_thinker([GOLDENS / name])
    assert model == alone
    assert parameters.keys() == expected.keys() == {"language_model", "vision_encoder", "audio_encoder"}


def test_an_unknown_tensor_of_an_encoder_is_named(tmp_path):
    name = "thinker_qwen3_5"
    shutil.copytree(GOLDENS / name, tmp_path / "copy")
    tensors = load_file(GOLDENS / name / "model.safetensors")
    tensors["model.visual.blocks.2.norm1.bias"] = tensors["model.visual.blocks.1.norm1.bias"]
    save_file(tensors, tmp_path / "copy" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"extra: model.visual.blocks.2.norm1.bias$"):
        open_thinker([tmp_path / "copy"])


def test_the_released_sizes_are_those_of_the_configs():
    config = json.loads((GOLDENS / "real_size" / "Qwen3-Omni-30B-A3B.config.json").read_text())
    assert parse_config(config).config == sizes.qwen3_omni_thinker().language_model
