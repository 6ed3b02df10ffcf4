"""The encoders give on eight devices what they give on one."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.parallel.encoder_cases import cases, output_and_gradients


@pytest.mark.multi
def test_tokens_and_gradients_equal_one_device(tmp_path):
    path = str(tmp_path / "arrays.npz")
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    command = [sys.executable, "-m", "tests.parallel.encoder_cases", path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(path)
    for name in cases():
        expected = output_and_gradients(name, None)
        for number, array in enumerate(expected):
            # float32 sums over devices and over thousands of patches, in another order
            scale = np.abs(array).max()
            np.testing.assert_allclose(found[f"{name}/{number}"], array, atol=2e-5 * max(1, scale))
