"""Released -> ours -> released gives the same files: names, shapes, types and values, whatever their layout."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from qomni_jax.interop import open_language_model
from qomni_jax.interop.__main__ import main
from qomni_jax.interop.safetensors_file import SafetensorsFile
from tests.interop.checkpoint_files import BASE, NAMES, config_of, fused, tensors_of, whole, with_head, write


def run(*arguments) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def read(directory) -> dict[str, np.ndarray]:
    """Every tensor, by the library that released checkpoints are written with."""
    index = directory / "model.safetensors.index.json"
    files = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    found: dict[str, np.ndarray] = {}
    for file in files:
        found |= load_file(directory / file)
    return found


def there_and_back(source, tmp_path, *options) -> dict[str, np.ndarray]:
    run("convert", f"--checkpoint={source}", f"--out={tmp_path / 'ours'}")
    run("export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'back'}", *options)
    return read(tmp_path / "back")


def assert_equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_files_come_back_as_they_were(name, tmp_path):
    back = there_and_back(whole(name, tmp_path / "released"), tmp_path)
    assert_equal(back, tensors_of(name))
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert {key: config[key] for key in config_of(name)} == config_of(name)


def test_shards_have_an_index_and_hold_no_more_than_asked(tmp_path):
    source = write(tmp_path / "released", config_of(BASE), tensors_of(BASE), shards=3)
    back = there_and_back(source, tmp_path, "--max_shard_size=300KB")
    assert_equal(back, tensors_of(BASE))
    index = json.loads((tmp_path / "back" / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{n:05d}-of-{len(files):05d}.safetensors" for n in range(1, len(files) + 1)]
    assert len(files) > 4
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in back.values())
    for file in files:
        with SafetensorsFile(tmp_path / "back" / file) as opened:
            assert sum(4 * info.size for info in opened.tensors.values()) <= 300 << 10


def test_fused_experts_come_back_fused(tmp_path):
    wanted = fused(tensors_of(BASE))
    assert_equal(there_and_back(write(tmp_path / "released", config_of(BASE), wanted), tmp_path), wanted)


def test_experts_are_written_in_the_layout_asked_for(tmp_path):
    source = whole(BASE, tmp_path / "released")
    run("export", f"--checkpoint={source}", f"--out={tmp_path / 'fused'}", "--experts=fused")
    assert_equal(read(tmp_path / "fused"), fused(tensors_of(BASE)))
    run("export", f"--checkpoint={tmp_path / 'fused'}", f"--out={tmp_path / 'back'}", "--experts=per_expert")
    assert_equal(read(tmp_path / "back"), tensors_of(BASE))


def test_the_head_for_more_tokens_keeps_a_layout_of_its_own(tmp_path):
    source = with_head(tmp_path / "released")
    back = there_and_back(source, tmp_path)
    assert_equal(back, tensors_of(BASE) | load_file(source / "model.safetensors"))
    assert json.loads((tmp_path / "back" / "config.json").read_text())["mtp_num_hidden_layers"] == 1


def test_tied_embeddings_have_no_head(tmp_path):
    tensors = tensors_of("qwen3_5_dense")
    del tensors["lm_head.weight"]
    config = config_of("qwen3_5_dense") | {"tie_word_embeddings": True}
    assert_equal(there_and_back(write(tmp_path / "released", config, tensors), tmp_path), tensors)
    repeated = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    _, parameters = open_language_model([write(tmp_path / "repeated", config, repeated)])
    assert "lm_head" not in parameters


def test_types_are_kept_and_changed_on_request(tmp_path):
    tensors = {
        name: value if name.endswith("A_log") else value.astype(ml_dtypes.bfloat16)
        for name, value in tensors_of("qwen3_next").items()
    }
    source = write(tmp_path / "released", config_of("qwen3_next") | {"dtype": "bfloat16"}, tensors)
    assert_equal(there_and_back(source, tmp_path), tensors)
    assert json.loads((tmp_path / "back" / "config.json").read_text())["dtype"] == "bfloat16"
    run("export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'wide'}", "--dtype=float32")
    assert_equal(read(tmp_path / "wide"), {name: value.astype(np.float32) for name, value in tensors.items()})
    run("convert", f"--checkpoint={source}", f"--out={tmp_path / 'ours32'}", "--dtype=float32")
    description, parameters = open_language_model([tmp_path / "ours32"])
    assert parameters["embed_tokens"].dtype == np.float32
    assert description.config.dtype == "bfloat16"


def test_a_model_with_vision_gives_its_language_model(tmp_path, capsys):
    text = config_of(BASE)
    config = {"model_type": "qwen3_5_moe", "text_config": text, "tie_word_embeddings": False, "dtype": "float32"}
    tensors = tensors_of(BASE)
    outer = {name.replace("model.", "model.language_model.", 1): value for name, value in tensors.items()}
    vision = {"model.visual.patch_embed.proj.bias": np.ones(4, np.float32)}
    source = write(tmp_path / "released", config, outer | vision)
    assert_equal(there_and_back(source, tmp_path), tensors)
    assert "not loaded: 1 tensors of visual" in capsys.readouterr().out
    assert json.loads((tmp_path / "back" / "config.json").read_text())["architectures"] == ["Qwen3_5MoeForCausalLM"]
