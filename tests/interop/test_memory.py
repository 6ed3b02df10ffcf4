"""Weights stream: the host holds what a command makes of them and a little more, not a second copy of anything.

Peaks are resident memory of a process of its own, above what it held after its imports and the same commands on a
tiny checkpoint, which starts the backend and the libraries' threads. Linux counts them anew on request.
"""

import functools
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from qomni_jax.interop import safetensors_file
from qomni_jax.interop.families import parse_config
from qomni_jax.interop.key_map import Layout, Rule, key_map, rows
from qomni_jax.interop.talker_families import parse_talker
from qomni_jax.interop.talker_keys import talker_key_map
from qomni_jax.interop.thinker_form import ThinkerForm, read_thinker_config
from tests.interop.checkpoint_files import BASE, config_of, whole, write_config
from tests.interop.released_omni import CONFIG, whole_tensors, write_whole
from tests.interop.released_talker import TALKER

CHILD = """
import gc, json, pathlib, sys
from qomni_jax.interop.__main__ import main

def resident(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))

def run(command, source, out):
    gc.collect()
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    assert main([command, "--checkpoint=" + source, "--out=" + out]) == 0
    return resident("VmHWM")

def all_three(source):
    ours = source + "-ours"
    return [run("convert", source, ours), run("export", source, source + "-0"), run("export", ours, source + "-1")]

tiny, big = sys.argv[1:]
all_three(tiny)
before = resident("VmRSS")
print(json.dumps([peak - before for peak in all_three(big)]))
"""
THINKER = "thinker_qwen3_5"
ROOT = pathlib.Path(__file__).resolve().parents[2]
TWO_LAYERS = {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"], "hidden_size": 512}
# The largest tensor holds all experts of a layer, or is the embedding: 34 MB each, of 112 and 97 MB.
FUSED = {"num_experts": 16, "moe_intermediate_size": 512, "vocab_size": 512}
PER_EXPERT = {"num_experts": 8, "moe_intermediate_size": 256, "vocab_size": 16384}


def can_reset_peaks() -> bool:
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def language_model(changes: dict, experts: str) -> tuple[dict, dict[str, Rule]]:
    """config.json of a language model, and its tensors."""
    config = config_of(BASE) | TWO_LAYERS | changes
    model = parse_config(config)
    return config, key_map(model.config, model.family, Layout("model.", experts, experts))


def thinker() -> tuple[dict, dict[str, Rule]]:
    """The same of a Thinker, whose largest tensors are in its vision encoder and its embedding."""
    config = config_of(THINKER)
    config["text_config"] |= {"hidden_size": 512, "vocab_size": 16_384}
    config["vision_config"] |= {"hidden_size": 1024, "intermediate_size": 2048, "out_hidden_size": 512}
    stored = read_thinker_config(config, "config.json")
    form = ThinkerForm(parse_config(config).family, Layout("model.language_model."), "model.visual.")
    return config, form.rules(stored.config)


def big_checkpoint(directory: pathlib.Path, config: dict, rules: dict[str, Rule]) -> tuple[int, int]:
    """Writes random weights; returns the bytes of all tensors and of the largest."""
    tensors = {name: safetensors_file.TensorInfo("F32", rule.shape) for name, rule in rules.items()}
    rng = np.random.default_rng(0)
    write_config(directory, config)
    blocks = (rng.standard_normal(info.shape, np.float32) for info in tensors.values())
    safetensors_file.write(directory / "model.safetensors", tensors, blocks)
    sizes = [4 * info.size for info in tensors.values()]
    return sum(sizes), max(sizes)


def speaking() -> tuple[dict, dict[str, Rule]]:
    """The same of a whole Qwen3-Omni, whose largest tensors are the experts of its Talker."""
    talker = json.loads(json.dumps(TALKER))
    talker["text_config"] |= {"hidden_size": 512, "num_local_experts": 16, "moe_intermediate_size": 512}
    talker["code_predictor_config"] |= {"hidden_size": 512}
    config = CONFIG | {"talker_config": talker}
    rules = {name: rows(name, name, *value.shape) for name, value in whole_tensors().items() if "talker." not in name}
    return config, rules | talker_key_map(parse_talker(talker).config, "talker.", "fused")


MODELS = {
    "fused": (functools.partial(whole, BASE), lambda: language_model(FUSED, "fused")),
    "per_expert": (functools.partial(whole, BASE), lambda: language_model(PER_EXPERT, "per_expert")),
    "thinker": (functools.partial(whole, THINKER), thinker),
    "speaking": (write_whole, speaking),
}


@pytest.mark.skipif(not can_reset_peaks(), reason="the system does not count the peak of resident memory anew")
@pytest.mark.parametrize("model", MODELS)
def test_peaks_stay_under_the_target_and_one_tensor(model, tmp_path):
    tiny, big = MODELS[model]
    tiny(tmp_path / "tiny")
    target, largest = big_checkpoint(tmp_path / "big", *big())
    arguments = [sys.executable, "-c", CHILD, str(tmp_path / "tiny"), str(tmp_path / "big")]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peaks = dict(zip(("convert", "export", "export of ours"), json.loads(done.stdout.splitlines()[-1]), strict=True))
    extra = {name: round((peak - target) / largest, 2) for name, peak in peaks.items()}
    assert target > 2.5 * largest  # a second copy of the weights would show
    assert max(extra.values()) < 1.3, f"tensors of {largest:,} bytes beside a target of {target:,}: {extra}"
    for path in tmp_path.iterdir():
        shutil.rmtree(path)
