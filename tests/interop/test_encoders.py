"""Released audio and vision encoders: every tensor has its place, and every golden tensor is met."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from qomni_jax.audio.aut import AudioEncoder
from qomni_jax.interop.__main__ import main
from qomni_jax.interop.encoder_families import parse_audio_encoder, parse_vision_encoder
from qomni_jax.interop.encoder_keys import audio_key_map, vision_key_map
from qomni_jax.interop.encoder_model import open_audio_encoder, open_vision_encoder
from qomni_jax.interop.key_map import leaf_shapes
from qomni_jax.interop.released import read_released
from qomni_jax.layers.linear import unbox
from qomni_jax.sizes import qwen3_5_vision, qwen3_omni_audio
from qomni_jax.storage.arrays import flat
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.vision.tower import VisionEncoder
from tests.interop.checkpoint_files import GOLDENS, config_of


@pytest.mark.parametrize("name", ["qwen3_omni_audio", "qwen3_5_vision"])
def test_every_tensor_of_an_encoder(name, tmp_path):
    golden = load_file(GOLDENS / name / "golden.safetensors")
    files = [f"--checkpoint={GOLDENS / name}", f"--golden={GOLDENS / name / 'golden.safetensors'}"]
    assert main(["verify", *files, f"--json={tmp_path / 'report.json'}"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["skipped"], report["tensors"].keys()) == ([], golden.keys())
    assert sum(row.get("input", False) for row in report["tensors"].values()) == 2


def parameter_shapes(module, *inputs) -> dict[str, tuple[int, ...]]:
    tree = jax.eval_shape(lambda: unbox(module.init(jax.random.key(0), *inputs)))["params"]
    return {name: leaf.shape for name, leaf in flat(tree).items()}


def test_names_and_shapes_of_a_released_vision_encoder():
    released = read_released([GOLDENS / "real_size" / "Qwen3.5-35B-A3B.keys.txt"])
    encoder = parse_vision_encoder(released.config)
    assert encoder.config == qwen3_5_vision()
    rules = vision_key_map(encoder.config, encoder.model_type, "model.visual.")
    theirs = {name: info.shape for name, info in released.tensors.items() if name.startswith("model.visual.")}
    assert {name: rule.shape for name, rule in rules.items()} == theirs
    inputs = np.zeros((1, 4, 1536), np.float32), np.full((1, 2), 2, np.int32)
    assert leaf_shapes(rules) == parameter_shapes(VisionEncoder(encoder.config), *inputs)


def test_places_of_a_released_audio_encoder():
    config = qwen3_omni_audio()
    inputs = np.zeros((1, 1, 128), np.float32), np.ones(1, np.int32)
    rules = audio_key_map(config, "thinker.audio_tower.")
    assert leaf_shapes(rules) == parameter_shapes(AudioEncoder(config), *inputs)
    assert rules["thinker.audio_tower.layers.31.self_attn.k_proj.bias"].lead == (31,)
    assert rules["thinker.audio_tower.conv_out.weight"].shape == (1280, 7680)


@pytest.mark.parametrize("name", ["qwen3_5_vision", "qwen3_omni_audio"])
def test_join_undoes_split(name):
    rules = (
        audio_key_map(parse_audio_encoder(config_of(name)).config)
        if name == "qwen3_omni_audio"
        else vision_key_map(parse_vision_encoder(config_of(name)).config, "qwen3_5_vision")
    )
    for key, rows in load_file(GOLDENS / name / "model.safetensors").items():
        blocks = [block for _, _, block in rules[key].split(0, rows)]
        np.testing.assert_array_equal(rules[key].join(blocks), rows)


def test_an_encoder_inside_a_model_is_the_encoder_alone(tmp_path):
    weights = load_file(GOLDENS / "qwen3_omni_audio" / "model.safetensors")
    weights = {f"thinker.audio_tower.{name}": value for name, value in weights.items()}
    config = {"model_type": "qwen3_omni_moe", "thinker_config": {"audio_config": config_of("qwen3_omni_audio")}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(weights | {"thinker.lm_head.weight": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    found, alone = open_audio_encoder([tmp_path]), open_audio_encoder([GOLDENS / "qwen3_omni_audio"])
    assert found[0] == alone[0]
    jax.tree.map(np.testing.assert_array_equal, found[1], alone[1])


def test_released_windows_are_eight_seconds():
    config = parse_audio_encoder(config_of("qwen3_omni_audio")).config
    assert (config.chunk_frames, config.tokens_per_chunk, config.window, config.window_frames) == (100, 13, 104, 800)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "whisper"}, "model_type = 'whisper': accepted is one of qwen3_5_vision"),
        ({"hidden_act": "silu"}, "hidden_act = 'silu': accepted is 'gelu_pytorch_tanh'"),
        ({"num_position_embeddings": 60}, "num_position_embeddings = 60: accepted is a square"),
        ({"depth": None}, "depth is absent"),
        ({"depth": 4}, "missing: blocks.3"),
        ({"out_hidden_size": 32}, r"misshapen: merger.linear_fc2.* \[64, 256\] \(accepted is \[32, 256\]\)"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(change, message, tmp_path):
    shutil.copy(GOLDENS / "qwen3_5_vision" / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config_of("qwen3_5_vision") | change))
    with pytest.raises(CheckpointError, match=message):
        open_vision_encoder([tmp_path])


def test_a_checkpoint_without_the_encoder_is_told():
    with pytest.raises(CheckpointError, match="audio_config: model_type = 'qwen3_5_moe_vision'"):
        open_audio_encoder([GOLDENS / "qwen3_5_vision"])
