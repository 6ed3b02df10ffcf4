"""Weights go straight to the devices that hold them: eight devices get the numbers of one, each its own part."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.interop.checkpoint_files import BASE, whole

CHILD = """
import json, pathlib, sys
import jax
import numpy as np
from qomni_jax.interop import open_language_model
from qomni_jax.interop.__main__ import main
from qomni_jax.layers.language_model import init_language_model
from qomni_jax.parallel.rules import parameter_shardings
from qomni_jax.storage.arrays import flat
from qomni_jax.thinker.model import init_thinker
from qomni_jax.thinker.storage import load_thinker, save_thinker
from tests.thinker.thinker_files import own_thinker

source, ours = sys.argv[1:]
axes = ("fsdp", "expert", "tensor")
mesh = jax.make_mesh((2, 2, 2), axes, axis_types=(jax.sharding.AxisType.Auto,) * 3)

def shardings(config):
    return parameter_shardings(mesh, jax.eval_shape(lambda: init_language_model(config, jax.random.key(0))))

assert main(["convert", "--checkpoint=" + source, "--out=" + ours]) == 0
_, alone = open_language_model([source])
for path in (source, ours):
    description, spread = open_language_model([path], shardings=shardings)
    wanted = flat(shardings(description.config))
    for name, leaf in flat(spread).items():
        np.testing.assert_array_equal(leaf, flat(alone)[name], err_msg=name)
        assert leaf.sharding.is_equivalent_to(wanted[name], leaf.ndim), name
stored, params, tokenizer = load_thinker(own_thinker(pathlib.Path(ours + "-thinker")))
wanted = parameter_shardings(mesh, jax.eval_shape(lambda: init_thinker(stored.config, jax.random.key(0))))
_, parts, _ = load_thinker(ours + "-thinker", shardings=wanted)
save_thinker(ours + "-again", stored, parts, tokenizer)  # as a run over several devices saves it
_, again, _ = load_thinker(ours + "-again")
for name, leaf in flat(params).items():
    np.testing.assert_array_equal(flat(parts)[name], leaf, err_msg=name)
    np.testing.assert_array_equal(flat(again)[name], leaf, err_msg=name)
    assert flat(parts)[name].sharding.is_equivalent_to(flat(wanted)[name], leaf.ndim), name
experts = flat(spread)["decoder/periods/gdn_0/feed_forward/moe/experts_gate_up_proj"]
print(json.dumps([experts.addressable_shards[0].data.nbytes, experts.nbytes]))
"""


@pytest.mark.multi
def test_parameters_spread_over_eight_devices(tmp_path):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", CHILD, whole(BASE, tmp_path / "released"), tmp_path / "ours"]
    root = pathlib.Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    part, whole_array = json.loads(done.stdout.splitlines()[-1])
    assert 8 * part == whole_array  # spread over all three axes, no part is kept twice
