"""Static cost of a TPU kernel: what the TPU compiler writes down about its last schedule, without a TPU.

The compiler packs a kernel into bundles, one a cycle when nothing stalls. With `DUMP_FLAGS` in LIBTPU_INIT_ARGS before
libtpu loads it leaves, per kernel, a file with the use of every unit in every bundle. Waits for DMA, the limit of HBM
bandwidth and stalls at run time are not in it; a branch (`pl.when`) counts as taken.
"""

from collections.abc import Mapping
import dataclasses
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any

DUMP_FLAGS = "--xla_jf_dump_to={directory} --xla_jf_dump_llo_text=true"
CLOCK_HZ = {"v5e": 1.5e9, "v5p": 1.75e9}  # peak rate over the matrix units' size; other generations are not known


@dataclasses.dataclass(frozen=True)
class KernelCost:
    """Of one execution of a kernel's body (a grid step)."""

    name: str
    bundles: int
    share: dict[str, float]  # unit -> used slots over all slots, of the whole body
    vmem_bytes: int  # windows, scratch and spilled registers

    @property
    def matrix_share(self) -> float:
        return self.share["MXU"]

    @property
    def spill_share(self) -> float:
        """Share of the store slot that writes registers that did not fit."""
        return self.share["VSTORE:SPILL"]


def parse_utilization(text: str) -> tuple[int, dict[str, float]]:
    """A `final_hlo-static-per-bundle-utilization` file -> (bundles, share of each unit's slots).

    The first line names nothing, the second the units, the third their slots; after a second title follows one row of
    counts a bundle. Raises ValueError when the file does not look like that.
    """
    lines = text.splitlines()
    try:
        units = [x.strip() for x in lines[1].split(",")]
        slots = [int(x) for x in lines[2].split()]
        rows = [[int(x) for x in line.split()] for line in lines[4:] if line.strip()]
        if not rows or not all(len(row) == len(units) == len(slots) for row in rows):
            raise ValueError("a row of another length")
    except (IndexError, ValueError) as e:
        raise ValueError(f"not a table of units by bundle: {e}") from None
    totals = [sum(column) for column in zip(*rows, strict=True)]
    return len(rows), {u: t / (s * len(rows)) for u, t, s in zip(units, totals, slots, strict=True)}


def read_dump(directory: str | pathlib.Path, kernels: list[str]) -> dict[str, KernelCost]:
    """Costs of the kernels with these `pallas_call` names. Raises ValueError where the dump has none of a name."""
    costs = {}
    for name in kernels:
        found = sorted(pathlib.Path(directory).glob(f"*-{name}.*final_hlo-static-per-bundle-utilization.txt"))
        found = [f for f in found if "pre-delay" not in f.name]
        if not found:
            raise ValueError(f"no schedule of a kernel named {name} in the compiler's dump")
        bundles, share = parse_utilization(found[-1].read_text())
        passes = sorted(pathlib.Path(directory).glob(f"*-{name}.*post-delay-converter.txt"))
        sizes = re.findall(r"space=vmem, size = (0x[0-9a-f]+)", passes[-1].read_text()) if passes else []
        costs[name] = KernelCost(name, bundles, share, sum(int(size, 16) for size in sizes))
    return costs


def compile_in_child(
    target: str, arguments: Mapping[str, Any], kernels: list[str]
) -> tuple[dict[str, Any], dict[str, KernelCost]]:
    """Runs `module:function(**arguments)` in a process whose TPU compiler dumps schedules; JSON-able result and costs.

    A process of its own, because libtpu reads its flags once. The dump (hundreds of files a kernel) is deleted.
    Raises RuntimeError with the child's last lines when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="llo") as directory:
        flags = DUMP_FLAGS.format(directory=directory) if kernels else ""
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "LIBTPU_INIT_ARGS": flags,
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
            "TPU_SKIP_MDS_QUERY": "1",
        }
        output = pathlib.Path(directory) / "result.json"
        command = [sys.executable, "-m", __name__, target, json.dumps(dict(arguments)), str(output)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{target} failed to compile:\n" + "\n".join(done.stderr.splitlines()[-8:]))
        return json.loads(output.read_text()), read_dump(directory, kernels)


def main(target: str, arguments: str, output: str) -> None:
    module, function = target.split(":")
    result = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    pathlib.Path(output).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
