"""Two processes that the launcher connects are one machine to JAX."""

import os
import socket
import subprocess
import sys

import pytest

COUNT = """
import sys
import jax
from jax.experimental import multihost_utils
assert __name__ == "__main__"
total = multihost_utils.process_allgather(jax.numpy.asarray(jax.process_index() + 1)).sum()
print("processes", jax.process_count(), "sum", int(total), "flags", sys.argv[1:])
"""


def launcher(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "qomni_jax.parallel.distributed", *arguments]


@pytest.mark.multi
def test_two_processes_see_each_other_and_the_module_gets_its_flags(tmp_path):
    (tmp_path / "count_hosts.py").write_text(COUNT)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            launcher(
                f"--coordinator=localhost:{port}", "--processes=2", f"--process={i}", "count_hosts", "--workdir=w"
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"},
        )
        for i in range(2)
    ]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert out.strip().endswith("processes 2 sum 3 flags ['--workdir=w']"), err[-2000:]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "no module"),
        (["--process=first", "m"], "--process=first"),
        (["--process=0", "m"], "all of them or none"),
        (["--host=a", "m"], "--host=a"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, named):
    done = subprocess.run(launcher(*arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
