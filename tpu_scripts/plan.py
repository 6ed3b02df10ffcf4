"""What a step of the model needs on a TPU slice, found out without a TPU.

Compiles the real train, prefill, decode or encode step with the TPU compiler on this machine and prints memory a chip,
operations, traffic over each mesh axis, and lower bounds of a step's time; `docs/scale.md` says how they come about.
Command: python -m tpu_scripts.plan --size=flash --topology=v5p:4x4x4 --stage=S2 --json=plan.json
Cost: minutes and a few GB of memory on two CPU cores; needs the `aot` extra (`pip install -e .[aot]`).
"""

import argparse
from collections.abc import Sequence
import dataclasses
import importlib.util
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any, NoReturn

GB = 1e9
PLACES = 16  # lines of the table of places; the JSON has all
# The child loads the compiler beside other processes that may have done so, and asks no metadata server.
_CHILD_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
}


class PlanError(ValueError):
    """A request that cannot be planned, in one line."""


def plan(request: Any, hlo_file: str | None = None) -> dict[str, Any]:
    """Compiles in a process of its own, and returns the figures. Raises PlanError with one line."""
    if importlib.util.find_spec("libtpu") is None:
        raise PlanError("libtpu is not installed: accepted is an environment with the aot extra, pip install -e .[aot]")
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")}
    environment |= _CHILD_ENVIRONMENT
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "figures.json"
        arguments = json.dumps([dataclasses.asdict(request), str(out), hlo_file])
        command = [sys.executable, "-m", "tpu_scripts.compile_step", arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if not out.exists():
            raise PlanError(f"the compiler's process ended with {done.returncode}: {_last_error(done.stderr)}")
        figures = json.loads(out.read_text())
    if "error" in figures:
        raise PlanError(figures["error"])
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures for reading."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in figures["mesh"].items()) or "one chip"
    lines = [
        f"{figures['size']} {figures['step']} on {figures['topology']} ({figures['chips']} chips), mesh {mesh}, "
        f"{figures['rows']} rows of {figures['tokens_a_row']:,} tokens",
        "forms: " + ", ".join(f"{k} {v}" for k, v in figures["forms"].items() if k != "kept")
        + (f"; kept for the backward pass: {', '.join(figures['forms']['kept']) or 'inputs of layers alone'}"
           if figures["step"] == "train" else ""),
        "",
        "memory a chip                     GB",
    ]  # fmt: skip
    lines += [f"  {name:28}{size / GB:8.2f}" for name, size in figures["bytes"].items()]
    peak = figures["peak_bytes"]
    lines.append(f"  {'peak':28}{peak / GB:8.2f}" if peak is not None else "  peak: unknown")
    fits = "fits" if figures["fits"] else "DOES NOT FIT"
    lines.append(f"  {'usable':28}{figures['hbm_bytes'] / GB:8.2f}   {fits}")
    if figures["step_seconds_bound"] is None:
        return "\n".join([*lines, "", *figures["notes"]])
    lines += [
        "",
        f"operations a chip {figures['flops']:.3e}, of which the model needs {figures['model_flops']:.3e}",
        "",
        "resource                    seconds   bytes a chip",
        f"  {'compute':22}{figures['seconds']['compute']:11.4f}",
        f"  {'HBM':22}{figures['seconds']['memory']:11.4f}   {figures['hbm_traffic_bytes']:.3e}",
    ]
    for axis, size in figures["collective_bytes"].items():
        lines.append(f"  {axis + ' links':22}{figures['seconds'][axis]:11.4f}   {size:.3e}")
    lines += [
        f"a step takes at least {figures['step_seconds_bound']:.4f} s (bound by {figures['bound_by']}), if all "
        "resources work at their published rates and at the same time:",
        f"  MFU at most {figures['mfu_bound']:.1%}, {figures['tokens_per_second_bound']:,.0f} tokens a second",
        f"and {figures['step_seconds_serial']:.4f} s with one operation after another, exchanges included:",
        f"  MFU {figures['mfu_serial']:.1%}",
        *_all_calls(figures),
        "",
        "where operations spend that time                        seconds   compute       HBM",
    ]
    places = sorted(figures["places"].items(), key=lambda item: -item[1]["seconds"])
    lines += [
        f"  {name[:50]:50}{p['seconds']:13.4f}{p['compute']:10.4f}{p['memory']:10.4f}" for name, p in places[:PLACES]
    ]
    if figures["kernels"]:
        lines += ["", "kernels                                calls   operations"]
        lines += [f"  {n[:34]:34}{k['calls']:10,.0f}   {k['flops']:.3e}" for n, k in sorted(figures["kernels"].items())]
    lines += [
        "",
        f"compiled in {figures['compile_seconds']:.0f} s ({figures['cpu_seconds']:.0f} s of one core's time) with "
        f"{figures['compiler_memory_bytes'] / GB:.1f} GB",
    ]
    return "\n".join(lines + [f"note: {note}" for note in figures["notes"]])


def _all_calls(figures: dict[str, Any]) -> list[str]:
    """How long a prompt or a medium takes that is read in several calls."""
    calls, bound, serial = figures["calls"], figures["step_seconds_bound"], figures["step_seconds_serial"]
    if calls == 1:
        return []
    if figures["step"] == "prefill":
        return [f"the last of {calls} such calls, and the one that looks back furthest"]
    return [f"{calls} such calls encode {figures['medium']}: {calls * bound:.3f} s at least, {calls * serial:.3f} s"]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 when the step fits, 1 when it does not; exits 2 with one line for a request that is not accepted."""
    args = vars(_parser().parse_args(argv))
    out, hlo_file = args.pop("json"), args.pop("hlo")
    from tpu_scripts.steps import Request

    for path in filter(None, (out, hlo_file)):
        parent = Path(path).absolute().parent
        if Path(path).is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
            _fail(f"{path}: accepted is a file in a directory that exists and can be written to")
    try:
        figures = plan(Request(**args), hlo_file)
    except ValueError as error:
        _fail(str(error))
    print(table(figures))
    if out:
        temporary = Path(f"{out}.partial")
        temporary.write_text(json.dumps(figures, indent=1) + "\n")
        os.replace(temporary, out)
    return 0 if figures["fits"] else 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _fail(f"{message} (--help lists the flags)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m tpu_scripts.plan",
        description=(__doc__ or "").split("\n\n")[0],
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--size", required=True, help="a model of qomni_jax.sizes: tiny, small, flash, plus, ...")
    parser.add_argument("--topology", required=True, help="the slice, such as v5p:4x4x4 or v5e:16x16")
    parser.add_argument("--stage", default="S2", help="training stage: sets the tokens of a row")
    parser.add_argument(
        "--step",
        default="train",
        help="train, prefill, decode, encode_audio, encode_video, talker_frame or codec_frame",
    )
    parser.add_argument("--context", type=int, help="tokens of a row, instead of the stage's")
    parser.add_argument("--batch", type=int, help="rows over the whole slice; by default one a device that splits rows")
    parser.add_argument("--mesh", help="sizes of mesh axes, such as fsdp=16,expert=4; by default a rule chooses")
    parser.add_argument("--chunk", type=int, help="prompt tokens a prefill call reads")
    parser.add_argument("--remat", help="tensors kept for the backward pass, with commas between, or none")
    parser.add_argument("--passes", type=int, default=1, help="parts in which a device's tokens go through the experts")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--hlo", help="write the compiled program's text here")
    return parser


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if ("Error" in line or "error" in line) and not line.startswith("File")]
    return (named or lines or ["no message"])[-1][:600]


def _fail(message: str) -> NoReturn:
    print(f"plan: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    raise SystemExit(main())
