"""The benches that need no peer: what they time is right, and their command refuses what it does not know."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments.bench import long_context, moe
from experiments.bench.peer import Peer, PeerError
from experiments.processes import KEEP_MEMORY


@pytest.mark.parametrize("form", sorted(set(moe.FORMS) - {"reference"}))
def test_every_form_of_the_experts_that_is_timed_gives_the_same(form):
    args = moe.arguments(moe.Shape(tokens=40, dim=8, num_experts=4, top_k=2, inner=6))

    def value_and_gradients(form):
        return jax.jit(
            jax.value_and_grad(lambda x, *rest: moe.product(form)(x, args[1], *rest).sum(), argnums=(0, 1, 2, 3))
        )(args[0], *args[2:])

    both = (jax.tree.leaves(value_and_gradients(name)) for name in (form, "reference"))
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.e2e
def test_a_recording_goes_through_the_whole_thinker_in_pieces(tmp_path):
    row = long_context.run_case(long_context.Case("recording", seconds=90), tmp_path)
    assert row["tokens"]["audio"] == row["features"] == 563  # 562.5
    assert row["fits"]
    assert row["rss_growth"] is None or row["rss_growth"] < 50e6  # a piece is 0.7 MB, the recording 6
    assert min(row["table_bytes"], row["cache_bytes"], row["encode_seconds"], row["prefill_seconds"]) > 0


PEER_THAT_TELLS = """
import os
from experiments.bench.peer import serve


def prepare(form):
    raise ValueError(f"kept: {sorted(name for name in form['names'] if name in os.environ)}")


serve(lambda threads: prepare)
"""


def test_kept_memory_is_ours_alone_and_the_peer_runs_as_its_users_start_it(tmp_path, monkeypatch):
    (tmp_path / "telling_peer.py").write_text(PEER_THAT_TELLS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name, value in KEEP_MEMORY.items():
        monkeypatch.setenv(name, value)
    with Peer(sys.executable, "telling_peer", threads=1) as peer, pytest.raises(PeerError, match=r"kept: \[\]"):
        peer.prepare({"names": list(KEEP_MEMORY)})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["mor"],
            "mor: accepted is one of codec, decoder, encoders, gated_delta_rule, long_context, moe, streaming, t",
        ),
        (["moe", "--peer"], "--peer with moe: accepted with codec, decoder, encoders, gated_delta_rule, talker"),
        (["streaming", "--predict", "--plans=no/such"], "--plans=no/such: accepted is a directory"),
        (["moe", "--mesh=heads=2"], "--mesh=heads=2: accepted is data=N or tensor=N"),
    ],
)
def test_the_command_names_what_it_accepts(flags, message):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.bench", *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
