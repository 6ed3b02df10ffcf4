"""Compiles one step for a slice and writes its figures: the child process of `tpu_scripts.plan`.

A process of its own because the TPU compiler's library is loaded with settings of its own, and can be loaded once.
"""

import functools
import json
from pathlib import Path
import re
import resource
import sys
import time
from typing import Any

import jax
from jax.experimental import topologies

from experiments.bench.codec import codec_flops
from qomni_jax.ops.attention.xla import BLOCK
from qomni_jax.parallel.mesh import make_mesh
from tpu_scripts.bounds import bounds, mean_context, model_flops
from tpu_scripts.cost import Walker
from tpu_scripts.hlo import Module
from tpu_scripts.kernels import kernel_cost
from tpu_scripts.media_steps import MEDIA_STEPS, encoder_flops, medium, planned_thinker
from tpu_scripts.speech_steps import planned_codec, planned_talker, talker_flops
from tpu_scripts.steps import Request, bytes_a_chip, planned_config, program


def compile_step(request: Request, hlo_file: str | None = None) -> dict[str, Any]:
    """The figures of a step (the shape of the plan's JSON).

    Raises ValueError where the topology or the mesh is not one that the compiler or the torus accepts.
    """
    piece = request.slice
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=piece.name).devices
    except Exception as error:
        raise ValueError(
            f"--topology={piece.name}: the TPU compiler does not accept it: {_first_line(error)}"
        ) from None
    try:
        mesh = make_mesh(**request.mesh_sizes, devices=devices)
    except (ValueError, NotImplementedError) as error:
        raise ValueError(
            f"--mesh={request.mesh_text}: accepted are sizes made of whole dimensions of {piece.name}: "
            f"{_first_line(error)}"
        ) from None
    parts: dict[str, int] = {}
    started = time.monotonic()
    with jax.set_mesh(mesh):
        wanted = program(request, planned_config(request), mesh)
        parts = {name: bytes_a_chip(tree) for name, tree in wanted.parts.items()}
        lowered = wanted.step(*wanted.args)
        lowered_seconds = time.monotonic() - started
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or "vmem" in str(error):  # on-chip memory is a kernel's fault
                raise
            return _does_not_fit(request, parts, str(error), time.monotonic() - started)
    compile_seconds = time.monotonic() - started
    text = compiled.as_text()
    if hlo_file:
        Path(hlo_file).write_text(text)
    chip = piece.chip
    causal = request.step not in MEDIA_STEPS
    rule = functools.partial(kernel_cost, causal=causal, chosen=_chosen_experts(request))
    walker = Walker(Module(text), rule, chip.peak_flops / chip.hbm_bandwidth, functools.partial(_loop_trips, request))
    cost = walker.total()
    memory = compiled.memory_analysis()
    peak = int(memory.peak_memory_in_bytes)
    limits = bounds(cost, piece, mesh)
    tokens, useful = _useful_work(request)
    ideal = useful / piece.chips / chip.peak_flops
    return {
        **_head(request),
        "fits": peak <= chip.hbm_bytes,
        "peak_bytes": peak,
        "bytes": {**parts, "activations": peak - sum(parts.values())},
        "flops": cost.flops,
        "model_flops": useful / piece.chips,
        "hbm_traffic_bytes": cost.hbm_bytes,
        "collective_bytes": limits.axis_bytes,
        "seconds": {"compute": limits.compute, "memory": limits.memory, **limits.axes},
        "step_seconds_bound": limits.seconds,
        "bound_by": limits.limit,
        "mfu_bound": ideal / limits.seconds,
        "tokens_per_second_bound": tokens / limits.seconds,
        "step_seconds_serial": limits.serial,
        "mfu_serial": ideal / limits.serial,
        "compiler_cycle_seconds": cost.compiler_cycles / chip.clock_hz if chip.clock_hz else None,
        "kernels": cost.kernels,
        "places": {
            name: {
                "seconds": sums["busy_flops"] / chip.peak_flops,
                "compute": sums["flops"] / chip.peak_flops,
                "memory": sums["hbm_bytes"] / chip.hbm_bandwidth,
            }
            for name, sums in cost.places.items()
        },
        "notes": cost.notes,
        "lower_seconds": lowered_seconds,
        "compile_seconds": compile_seconds,
        **_effort(),
    }


def _useful_work(request: Request) -> tuple[int, float]:
    """Tokens of a step, and operations that the model needs for them."""
    if request.step in MEDIA_STEPS:
        thinker = planned_thinker(request.size, request.rows)
        flops = encoder_flops(thinker, medium(request.size, request.step), request.rows)
        return request.rows * request.tokens, flops
    if request.step == "codec_frame":
        return request.rows, codec_flops(planned_codec(request.size), request.rows)
    if request.step == "talker_frame":
        return request.rows, talker_flops(planned_talker(request.size), request.rows, request.tokens)
    tokens = request.rows * {"train": request.tokens, "prefill": request.prompt_chunk, "decode": 1}[request.step]
    context = mean_context(request.tokens) if request.step == "train" else request.tokens
    config = planned_config(request)
    return tokens, model_flops(config, tokens=tokens, context=context, training=request.step == "train")


def _chosen_experts(request: Request) -> float:
    """The share of the experts that anyone in the call visits, where routers are balanced and tokens draw by chance."""
    if request.step in MEDIA_STEPS or request.step == "codec_frame":
        return 1.0
    talker = request.step == "talker_frame"
    ff = (planned_talker(request.size) if talker else planned_config(request)).decoder.feed_forward
    tokens = _useful_work(request)[0] / request.mesh_sizes.get("data", 1)
    return 1.0 - (1.0 - ff.top_k / ff.num_experts) ** tokens if ff.num_experts else 1.0


def _loop_trips(request: Request, operation: str) -> int | None:
    """Prefill looks back on as many blocks of keys as its cache holds so far: here on a full one."""
    if request.step == "prefill" and "self_attn" in operation:
        return -(-request.tokens // BLOCK)
    return None


def _head(request: Request) -> dict[str, Any]:
    return {
        "size": request.size,
        "topology": request.slice.name,
        "chips": request.slice.chips,
        "step": request.step,
        "stage": request.stage,
        "tokens_a_row": request.tokens,
        "calls": request.calls,
        "medium": medium(request.size, request.step).name if request.step in MEDIA_STEPS else None,
        "rows": request.rows,
        "mesh": {axis: size for axis, size in request.mesh_sizes.items() if size > 1},
        "forms": _forms(request),
        "hbm_bytes": request.slice.chip.hbm_bytes,
    }


def _forms(request: Request) -> dict[str, Any]:
    if request.step in MEDIA_STEPS:
        audio = planned_thinker(request.size, request.rows).audio
        assert audio is not None
        return {"attention": audio.encoder.backend, "kept": []}
    if request.step == "codec_frame":
        return {"attention": planned_codec(request.size).decoder.transformer.backend, "kept": []}
    d = (planned_talker(request.size) if request.step == "talker_frame" else planned_config(request)).decoder
    return {
        "gated_delta_rule": d.gdn.backend,
        "attention": d.attention.backend,
        "experts": d.feed_forward.backend,
        "dispatch": d.feed_forward.dispatch,
        "kept": list(d.remat or ()),
    }


def _does_not_fit(request: Request, parts: dict[str, int], message: str, seconds: float) -> dict[str, Any]:
    """The figures that are known where the compiler ran out of a chip's memory."""
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    asked = re.search(r"Used ([\d.]+)([KMGT]?) of ", message) or re.search(r"\(([\d.]+)([KMGT]?)\) exceeds", message)
    peak = int(float(asked.group(1)) * units[asked.group(2)]) if asked else None
    return {
        **_head(request),
        "fits": False,
        "peak_bytes": peak,
        "bytes": parts,
        "flops": None,
        "collective_bytes": {},
        "step_seconds_bound": None,
        "mfu_bound": None,
        "compile_seconds": seconds,
        **_effort(),
        "notes": [_first_line(message)],
    }


def _effort() -> dict[str, float]:
    """What this process has cost the machine."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"compiler_memory_bytes": used.ru_maxrss * 1024, "cpu_seconds": used.ru_utime + used.ru_stime}


def _first_line(error: object) -> str:
    return " ".join(str(error).split())[:400]


def main() -> None:
    request, out, hlo_file = json.loads(sys.argv[1])
    result: dict[str, Any]
    try:
        result = compile_step(Request(**request), hlo_file)
    except ValueError as error:
        result = {"error": str(error)}
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
