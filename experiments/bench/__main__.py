"""Benches: `python -m experiments.bench NAME [--peer] [--json=F]`; NAME is `gated_delta_rule`, `moe`, `decoder`,
`encoders`, `codec`, `talker`, `streaming` or `long_context`.

With `--peer` the reference runs beside ours, repetition by repetition, in a child process of the interpreter that
`--peer_python` names (the extra `peer` installed), with as many threads. `gated_delta_rule --aot` compiles the kernels
for TPUs that are not there instead.
"""

from collections.abc import Sequence
import contextlib
import json
import os
import pathlib
import sys
from typing import Any

from absl import app, flags

_PEER = flags.DEFINE_bool("peer", False, "run the reference as well and print the ratio.")
_PEER_PYTHON = flags.DEFINE_string("peer_python", sys.executable, "the interpreter that runs the reference.")
_JSON = flags.DEFINE_string("json", None, "where the rows are written.")
_CASES = flags.DEFINE_string("cases", "", "a regular expression: cases whose names it matches, all where empty.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "repetitions, of which the median is reported.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 2, "threads of either side, at most the machine's cores.", lower_bound=1)
_MESH = flags.DEFINE_string("mesh", "", "data=N or tensor=N: rows or heads spread over N CPU devices, one a core.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "talker: a Qwen3-Omni of tiny size, instead of a random one.")
_SIZE = flags.DEFINE_enum("size", "small", ("tiny", "small"), "streaming: of the system.")
_PREDICT = flags.DEFINE_bool("predict", False, "streaming: bounds on TPU slices from plans, instead of times here.")
_PLANS = flags.DEFINE_string("plans", "plans", "streaming --predict: where tpu_scripts.plan has written its JSON.")
_KEEP_MEMORY = flags.DEFINE_bool(
    "keep_memory", False, "our side keeps freed memory in the heap, as experiments.train does; the peer does not."
)
_AOT = flags.DEFINE_bool("aot", False, "gated_delta_rule: static figures of the TPU kernels instead of times.")

BENCHES = ("codec", "decoder", "encoders", "gated_delta_rule", "long_context", "moe", "streaming", "talker")
WITHOUT_PEER = ("long_context", "moe", "streaming")
# XLA's CPU backend has two libraries for products and convolutions. Those of the encoders are faster by Eigen than by
# YNNPACK, its default, which here keeps the sums of norms and softmaxes alone.
XLA_FLAGS = {"encoders": "--xla_cpu_experimental_ynn_fusion_type=REDUCE"}


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2 or argv[1] not in BENCHES:
        raise app.UsageError(f"{' '.join(argv[1:]) or 'no name'}: accepted is one of {', '.join(BENCHES)}")
    if _AOT.value and argv[1] != "gated_delta_rule":
        raise app.UsageError(f"--aot with {argv[1]}: accepted with gated_delta_rule")
    if _PEER.value and argv[1] in WITHOUT_PEER:
        raise app.UsageError(
            f"--peer with {argv[1]}: accepted with {', '.join(n for n in BENCHES if n not in WITHOUT_PEER)}"
        )
    if _KEEP_MEMORY.value:
        from experiments.processes import restart_with_kept_memory

        restart_with_kept_memory("experiments.bench", sys.argv[1:])
    # Before JAX reads it; what the caller says comes last and holds.
    os.environ["XLA_FLAGS"] = f"{XLA_FLAGS.get(argv[1], '')} {os.environ.get('XLA_FLAGS', '')}".strip()
    # Before JAX counts the cores: its thread pool has one thread for each that it may use.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: _THREADS.value])
    if _MESH.value:
        from experiments.bench.devices import use_mesh

        try:
            use_mesh(_MESH.value)
        except ValueError as error:
            raise app.UsageError(str(error)) from None
    if _AOT.value:
        from experiments.bench import gated_delta_rule_aot

        rows = gated_delta_rule_aot.run()
    elif _PREDICT.value and argv[1] == "streaming":
        from experiments.bench import first_packet

        try:
            rows = first_packet.predict(_PLANS.value)
        except ValueError as error:
            raise app.UsageError(str(error)) from None
    elif argv[1] == "long_context":
        from experiments.bench import long_context

        rows = long_context.run(_CASES.value)
    else:
        rows = _timed(argv[1])
    if _JSON.value:
        from experiments.files import write_atomically

        write_atomically(pathlib.Path(_JSON.value), json.dumps({"bench": argv[1], "rows": rows}, indent=1) + "\n")


def _timed(name: str) -> list[dict]:
    import importlib

    from experiments.bench.peer import Peer, PeerError
    from experiments.bench.timing import describe, run_cases

    bench = importlib.import_module(f"experiments.bench.{name}")
    try:
        with contextlib.ExitStack() as stack:
            peer = None
            if _PEER.value:
                peer = stack.enter_context(Peer(_PEER_PYTHON.value, bench.PEER_MODULE, _THREADS.value))
            own: dict[str, dict[str, Any]] = {
                "talker": {"checkpoint": _CHECKPOINT.value},
                "streaming": {"size": _SIZE.value},
            }
            settings = own.get(name, {})
            rows = run_cases(bench.cases(_REPEATS.value, **settings), peer, _REPEATS.value, _CASES.value)
    except PeerError as error:
        sys.exit(f"bench: {error}")
    more = bench.summary(rows)
    for row in more:
        print(describe(row))
    return rows + more


if __name__ == "__main__":
    app.run(main)
