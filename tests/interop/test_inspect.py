"""`inspect` counts parameters from headers or a list of keys, without weights."""

import json
import shutil

import pytest

from qomni_jax.interop.__main__ import main
from tests.interop.checkpoint_files import BASE, GOLDENS, tensors_of, whole, with_head

# total, vision, experts, a token's share: billions. Model names and published file sizes agree with the totals.
TOTALS = {
    "Qwen3.5-35B-A3B": (35.107, 0.447, 32.212, 3.455),
    "Qwen3.5-122B-A10B": (122.563, 0.451, 115.964, 9.771),
    "Qwen3.5-397B-A17B": (396.802, 0.456, 386.547, 17.349),
    "Qwen3.5-27B": (27.357, 0.461, 0.0, 26.896),
}


def inspected(tmp_path, *arguments: str) -> dict:
    assert main(["inspect", *arguments, f"--json={tmp_path / 'found.json'}"]) == 0
    return json.loads((tmp_path / "found.json").read_text())


@pytest.mark.parametrize("name", TOTALS)
def test_totals_of_released_models_from_their_keys(name, tmp_path, capsys):
    found = inspected(tmp_path, f"--checkpoint={GOLDENS / 'real_size' / name}.keys.txt")
    billions = found["billions"]
    assert tuple(billions[part] for part in ("total", "visual", "experts", "active_text")) == TOTALS[name]
    assert found["family"] == ("qwen3_5" if name == "Qwen3.5-27B" else "qwen3_5_moe")
    printed = capsys.readouterr().out
    assert f"{TOTALS[name][0]:.3f}" in printed
    assert "not loaded" not in printed


def test_every_part_of_qwen3_omni_is_counted(tmp_path, capsys):
    """Twice the total, in bytes, is the size of the published files."""
    found = inspected(tmp_path, f"--checkpoint={GOLDENS / 'real_size' / 'Qwen3-Omni-30B-A3B'}.keys.txt")
    thinker = {"language_model": 30.221, "lm_head": 0.311, "audio": 0.648, "visual": 0.539}
    speech = {"talker": 3.183, "code_predictor": 0.142, "code2wav": 0.216}
    totals = {"total": 35.260, "thinker": 31.719, "experts": 32.011}
    expected = thinker | speech | totals
    assert {part: found["billions"][part] for part in expected} == expected
    assert found["family"] == "qwen3_omni_thinker"
    assert found["sizes"]["talker.code_predictor.attention_layers"] == 5
    assert found["sizes"]["code2wav.delay"] == 555
    assert found["not_loaded"] == []
    assert "not loaded" not in capsys.readouterr().out


def test_a_config_may_stand_elsewhere(tmp_path, capsys):
    source = GOLDENS / "real_size" / "Qwen3.5-27B"
    shutil.copy(f"{source}.keys.txt", tmp_path / "keys.txt")
    assert main(["inspect", f"--checkpoint={tmp_path / 'keys.txt'}"]) == 2
    assert "has no config.json" in capsys.readouterr().err
    found = inspected(tmp_path, f"--checkpoint={tmp_path / 'keys.txt'}", f"--config={source}.config.json")
    assert found["parameters"]["total"] == 27_356_728_560


def test_a_checkpoint_directory(tmp_path):
    found = inspected(tmp_path, f"--checkpoint={whole(BASE, tmp_path / 'released')}")
    tensors = tensors_of(BASE)
    assert found["parameters"]["total"] == sum(value.size for value in tensors.values())
    assert found["bytes"] == sum(value.nbytes for value in tensors.values())
    assert found["dtypes"] == {"F32": 160}
    assert found["sizes"]["feed_forward.num_experts"] == 8


def test_the_head_for_more_tokens_is_counted_apart(tmp_path):
    found = inspected(tmp_path, f"--checkpoint={with_head(tmp_path / 'released')}")
    experts = sum(value.size for name, value in tensors_of(BASE).items() if ".mlp.experts." in name)
    assert found["parameters"]["mtp"] == 133_120
    assert found["parameters"]["experts"] == experts * 5 // 4  # four layers and the head's
    assert found["sizes"]["mtp_layers"] == 1


def test_lines_that_are_no_keys_are_named(tmp_path, capsys):
    keys = tmp_path / "some.keys.txt"
    keys.write_text("lm_head.weight\t[4, 2]\nmodel.norm.weight 2\n")
    assert main(["inspect", f"--checkpoint={keys}"]) == 2
    assert "some.keys.txt:2: 'model.norm.weight 2': accepted is a name, a tab and a shape" in capsys.readouterr().err
