"""What is wrong with a checkpoint is one line that names it; the command fails and leaves nothing behind."""

import json
import pathlib

import ml_dtypes
import numpy as np
import pytest

from qomni_jax.interop import storage
from qomni_jax.interop.__main__ import main
from tests.interop.checkpoint_files import BASE, config_of, tensors_of, whole, write

NAME = "model.layers.1.linear_attn.in_proj_z.weight"


def refused(capsys, tmp_path: pathlib.Path, command: str, *arguments: str) -> str:
    """The one line of a command that fails; asserts that it left nothing at its destination."""
    before = sorted(tmp_path.iterdir())
    code = main([command, *arguments, *([] if command == "inspect" else [f"--out={tmp_path / 'out'}"])])
    assert code == 2
    message = capsys.readouterr().err
    assert message.startswith(f"qomni_jax.interop {command}: ")
    assert message.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    return message


def with_value(value: float) -> dict[str, np.ndarray]:
    tensors = tensors_of(BASE)
    tensors[NAME] = tensors[NAME].copy()
    tensors[NAME].flat[7] = value
    return tensors


CHANGES = {
    "missing": (lambda t: t.pop(NAME), f"missing: {NAME}\n"),
    "extra": (lambda t: t.update(surplus=np.zeros(3, np.float32)), "extra: surplus\n"),
    "vision without vision": (
        lambda t: t.update({"model.visual.a": np.zeros(3, np.float32)}),
        "extra: model.visual.a\n",
    ),
    "misshapen": (
        lambda t: t.update({NAME: t[NAME].T[:-1].copy()}),
        f"misshapen: {NAME} [63, 64] (accepted is [64, 64])",
    ),
    "half precision": (
        lambda t: t.update({NAME: t[NAME].astype(np.float16)}),
        f"wrong dtype: {NAME} F16 (accepted is F32)",
    ),
    "integers": (
        lambda t: t.update({NAME: t[NAME].astype(np.int64)}),
        f"wrong dtype: {NAME} I64 (accepted is F32)",
    ),
    "one expert short": (
        lambda t: [t.pop(f"model.layers.2.mlp.experts.7.{kind}_proj.weight") for kind in ("gate", "up", "down")],
        "missing: model.layers.2.mlp.experts.7.down_proj.weight, model.layers.2.mlp.experts.7.gate_proj.weight, ",
    ),
    "part of a head": (lambda t: t.update({"mtp.norm.weight": np.zeros(64, np.float32)}), "missing: mtp.fc.weight, "),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_tensors_that_do_not_fit(kind, tmp_path, capsys):
    change, expected = CHANGES[kind]
    tensors = tensors_of(BASE)
    change(tensors)
    source = write(tmp_path / "released", config_of(BASE), tensors)
    assert expected in refused(capsys, tmp_path, "convert", f"--checkpoint={source}")
    assert expected in refused(capsys, tmp_path, "inspect", f"--checkpoint={source}")


def test_all_that_is_wrong_stands_in_one_message(tmp_path, capsys):
    tensors = tensors_of(BASE)
    tensors["surplus"] = tensors.pop(NAME)
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1]
    source = write(tmp_path / "released", config_of(BASE), tensors)
    message = refused(capsys, tmp_path, "convert", f"--checkpoint={source}")
    assert f"missing: {NAME}; extra: surplus; misshapen: lm_head.weight [511, 64]" in message


def test_layers_must_share_a_type(tmp_path, capsys):
    config = config_of(BASE) | {"dtype": "bfloat16"}
    tensors = {name: value.astype(ml_dtypes.bfloat16) for name, value in tensors_of(BASE).items()}
    tensors[NAME] = tensors[NAME].astype(np.float32)
    source = write(tmp_path / "released", config, tensors)
    message = refused(capsys, tmp_path, "convert", f"--checkpoint={source}")
    assert f"wrong dtype: {NAME} F32 (accepted is BF16, as in the other layers)" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("command", ["convert", "export"])
def test_weights_that_are_not_finite(command, value, tmp_path, capsys):
    source = write(tmp_path / "released", config_of(BASE), with_value(value))
    assert f"{NAME}: NaN or infinite" in refused(capsys, tmp_path, command, f"--checkpoint={source}")


def test_a_nan_in_bfloat16_is_seen(tmp_path, capsys):
    tensors = {name: value.astype(ml_dtypes.bfloat16) for name, value in with_value(np.nan).items()}
    source = write(tmp_path / "released", config_of(BASE) | {"dtype": "bfloat16"}, tensors)
    assert f"{NAME}: NaN or infinite" in refused(capsys, tmp_path, "convert", f"--checkpoint={source}")


def test_a_tied_head_that_differs(tmp_path, capsys):
    source = write(tmp_path / "released", config_of(BASE) | {"tie_word_embeddings": True}, tensors_of(BASE))
    message = refused(capsys, tmp_path, "convert", f"--checkpoint={source}")
    assert "lm_head.weight differs from model.embed_tokens.weight" in message


@pytest.mark.parametrize("kept", [0, 5, 8, 5_000, -1, -70_000])
def test_files_cut_short(kept, tmp_path, capsys):
    source = whole(BASE, tmp_path / "released")
    file = source / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert "model.safetensors: truncated" in refused(capsys, tmp_path, "convert", f"--checkpoint={source}")


def test_files_that_are_something_else(tmp_path, capsys):
    source = whole(BASE, tmp_path / "released")
    file = source / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data + b"\0")
    assert "too long" in refused(capsys, tmp_path, "convert", f"--checkpoint={source}")
    file.write_bytes(data.replace(b'"shape":[512,64]', b'"shape":[513,64]', 1))
    assert "its bytes do not fit its shape [513, 64]" in refused(capsys, tmp_path, "convert", f"--checkpoint={source}")
    file.write_bytes(data[:8] + b"[" + data[9:])
    assert "the header is not that of" in refused(capsys, tmp_path, "convert", f"--checkpoint={source}")
    file.unlink()
    assert "model.safetensors: cannot be read" in refused(capsys, tmp_path, "convert", f"--checkpoint={source}")


def test_an_index_that_does_not_fit_its_files(tmp_path, capsys):
    source = write(tmp_path / "released", config_of(BASE), tensors_of(BASE), shards=2)
    path = source / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    shard = index["weight_map"].pop(NAME)
    index["weight_map"]["phantom"] = shard
    path.write_text(json.dumps(index))
    message = refused(capsys, tmp_path, "convert", f"--checkpoint={source}")
    assert f"missing: phantom (in {shard}); extra: {NAME} (in {shard})" in message
    (source / shard).unlink()
    assert f"{shard}: cannot be read" in refused(capsys, tmp_path, "convert", f"--checkpoint={source}")


def test_configs_that_are_absent_or_unknown(tmp_path, capsys):
    source = whole(BASE, tmp_path / "released")
    config = source / "config.json"
    config.write_text(json.dumps(config_of(BASE) | {"model_type": "mamba"}))
    assert "model_type = 'mamba': accepted is one of " in refused(capsys, tmp_path, "inspect", f"--checkpoint={source}")
    config.write_text("{")
    assert "config.json: not JSON" in refused(capsys, tmp_path, "convert", f"--checkpoint={source}")
    config.unlink()
    assert "has no config.json" in refused(capsys, tmp_path, "convert", f"--checkpoint={source}")
    assert "accepted is a checkpoint directory" in refused(capsys, tmp_path, "convert", f"--checkpoint={source}-no")


@pytest.mark.parametrize(("said", "held"), [("qwen3_next", BASE), (BASE, "qwen3_next"), ("qwen3_5_dense", BASE)])
def test_weights_of_another_family(said, held, tmp_path, capsys):
    source = write(tmp_path / "released", config_of(said), tensors_of(held))
    message = refused(capsys, tmp_path, "convert", f"--checkpoint={source}")
    assert "missing: model.layers.0." in message
    assert "extra: model.layers.0." in message
    assert "missing: model.layers.0." in refused(capsys, tmp_path, "export", f"--checkpoint={source}")


def test_an_index_that_names_an_absent_file(tmp_path, capsys):
    source = write(tmp_path / "released", config_of(BASE), tensors_of(BASE), shards=2)
    path = source / "model.safetensors.index.json"
    path.write_text(path.read_text().replace("00002-of-00002", "00003-of-00002"))
    for command in ("convert", "export"):
        message = refused(capsys, tmp_path, command, f"--checkpoint={source}")
        assert "model-00003-of-00002.safetensors: cannot be read (No such file or directory)" in message


@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_our_checkpoint_with_a_damaged_chunk(damage, tmp_path, capsys):
    source = whole(BASE, tmp_path / "released")
    assert main(["convert", f"--checkpoint={source}", f"--out={tmp_path / 'ours'}"]) == 0
    (chunk,) = (tmp_path / "ours" / "parameters" / "lm_head.kernel").glob("[0-9]*")
    data = chunk.read_bytes()
    chunk.unlink()
    if damage == "cut":
        chunk.write_bytes(data[:-4])
    message = refused(capsys, tmp_path, "export", f"--checkpoint={tmp_path / 'ours'}")
    assert "its parameters cannot be read" in message
    assert "lm_head.kernel" in message


def test_a_destination_that_exists_is_not_touched(tmp_path, capsys):
    source = whole(BASE, tmp_path / "released")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine")
    for command in ("convert", "export"):
        assert "out: exists" in refused(capsys, tmp_path, command, f"--checkpoint={source}")
    assert (tmp_path / "out" / "file").read_text() == "mine"


def test_a_write_that_fails_leaves_nothing(tmp_path, capsys, monkeypatch):
    source = whole(BASE, tmp_path / "released")

    def full(*arguments, **options):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(storage.Layout, "_asdict", full)  # after the parameters, before the directory takes its name
        assert "disk full" in refused(capsys, tmp_path, "convert", f"--checkpoint={source}")


def test_our_checkpoint_with_an_array_lost(tmp_path, capsys):
    source = whole(BASE, tmp_path / "released")
    assert main(["convert", f"--checkpoint={source}", f"--out={tmp_path / 'ours'}"]) == 0
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    config["language_model"]["num_mtp_layers"] = 1
    (tmp_path / "ours" / "config.json").write_text(json.dumps(config))
    assert "missing: mtp/fc/kernel, " in refused(capsys, tmp_path, "export", f"--checkpoint={tmp_path / 'ours'}")
    del config["layout"]
    (tmp_path / "ours" / "config.json").write_text(json.dumps(config))
    assert "not the config of a converted checkpoint ('layout')" in refused(
        capsys, tmp_path, "export", f"--checkpoint={tmp_path / 'ours'}"
    )
