"""Parity, tensor by tensor, with goldens that transformers computed; nothing in a golden file is passed over."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from qomni_jax.interop.__main__ import main
from tests.interop.checkpoint_files import BASE, GOLDENS, NAMES, whole, with_head


def verified(tmp_path, golden, *arguments: str) -> tuple[int, dict]:
    code = main(["verify", *arguments, f"--golden={golden}", f"--json={tmp_path / 'report.json'}"])
    return code, json.loads((tmp_path / "report.json").read_text())


def compared(report: dict) -> dict[str, dict]:
    return {name: row for name, row in report["tensors"].items() if not row.get("input")}


@pytest.mark.parametrize(("name", "count"), zip(NAMES, (6, 31, 6), strict=True))
def test_every_tensor_of_a_text_model(name, count, tmp_path):
    golden = GOLDENS / name / "golden.safetensors"
    code, report = verified(tmp_path, golden, f"--checkpoint={whole(name, tmp_path / 'released')}")
    rows = compared(report)
    assert (code, report["skipped"]) == (0, [])
    assert report["tensors"].keys() == load_file(golden).keys()
    assert len(rows) == count
    if name == BASE:  # one token magnifies rounding: the golden is further from float64 than the tolerance is wide
        assert 3.4e-5 < rows["logits_cached"]["max_abs_err"] < rows["logits_cached"]["golden_err"] < 5.1e-5
        assert all(
            row["golden_err"] < 2e-5 for key, row in rows.items() if key not in ("logits_cached", "greedy_from20")
        )


def test_what_is_more_than_rounding_is_not_excused(tmp_path):
    """An error that all of ours share, exact values included, would look like one of the golden."""
    golden = load_file(GOLDENS / "qwen3_5_dense" / "golden.safetensors")
    golden = {"input_ids": golden["input_ids"], "logits": golden["logits"] + np.float32(2e-4)}
    save_file(golden, tmp_path / "golden.safetensors")
    source = whole("qwen3_5_dense", tmp_path / "released")
    code, report = verified(tmp_path, tmp_path / "golden.safetensors", f"--checkpoint={source}")
    assert (code, report["tensors"]["logits"]["ok"]) == (1, False)
    assert report["tensors"]["logits"]["golden_err"] > 1.8e-4


def test_the_head_for_more_tokens(tmp_path):
    source = with_head(tmp_path / "released")
    code, report = verified(tmp_path, source / "golden.safetensors", f"--checkpoint={source}")
    assert (code, report["skipped"], set(compared(report))) == (0, [], {"main_hidden", "hidden", "logits"})


def test_the_gated_delta_rule_and_all_its_gradients(tmp_path):
    code, report = verified(tmp_path, GOLDENS / "op_gdn" / "golden.safetensors")
    assert (code, report["skipped"]) == (0, [])
    assert set(compared(report)) == {"o", "s", "dq", "dk", "dv", "dg", "dbeta", "ds0"}


def test_features_of_recordings_and_how_far_the_golden_is_from_their_formula(tmp_path):
    code, report = verified(tmp_path, GOLDENS / "feat_whisper128" / "golden.safetensors")
    assert (code, report["skipped"], set(compared(report))) == (0, [], {"input_features"})
    row = report["tensors"]["input_features"]
    # Both float32: the golden is a little further from float64 than we are from the golden.
    assert row["max_abs_err"] < 3.5e-5 < row["golden_err"] < 4.5e-5


def test_a_tensor_that_is_off_or_not_understood_is_told(tmp_path):
    golden = load_file(GOLDENS / "op_gdn" / "golden.safetensors")
    golden["dk"] = golden["dk"] + np.float32(3e-5)
    golden["surplus"] = np.zeros(3, np.float32)
    save_file(golden, tmp_path / "golden.safetensors")
    code, report = verified(tmp_path, tmp_path / "golden.safetensors")
    assert (code, report["ok"], report["skipped"]) == (1, False, ["surplus"])
    assert [name for name, row in report["tensors"].items() if not row["ok"]] == ["dk"]


def test_a_model_golden_needs_its_checkpoint(tmp_path, capsys):
    assert main(["verify", f"--golden={GOLDENS / BASE / 'golden.safetensors'}"]) == 2
    assert "--checkpoint is missing" in capsys.readouterr().err
