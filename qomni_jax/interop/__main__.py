"""Released checkpoints in and out: `python -m qomni_jax.interop inspect|convert|export|verify`.

Reads Qwen3.5 (dense and mixture of experts, with vision or without), Qwen3-Next, Qwen3-Omni whole and in parts
(Thinker, Talker with its code predictor, Code2Wav), the decoder of the Qwen3-TTS 12 Hz tokenizer, and Mimi. `convert`
and `export` take all that a checkpoint holds, with the files of tokenizer and processor beside it, or the one part that
`--part` names, and say what they leave. `inspect`, `export` and `verify` read what `convert` wrote as they read the
checkpoint that it came from. `verify` also reads the audio encoder of Qwen3-Omni and the vision encoders of Qwen3.5 and
Qwen3-Omni, each alone. Exit code 0: done. 1: `verify` found a tensor out of tolerance. 2: an input is not accepted, and
nothing was written; one line says which and why.
"""

import argparse
from collections.abc import Callable, Sequence
import json
from pathlib import Path
import re
import sys
from typing import Any

from absl import logging

from qomni_jax.interop.inventory import describe, inventory, inventory_of_ours, not_loaded_note
from qomni_jax.interop.parts import PARTS, choose_part, convert_part, export_part, is_ours, left_alone
from qomni_jax.interop.released import read_released
from qomni_jax.interop.verify import verify
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.storage.files import require_new

_UNITS = {"": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def main(arguments: Sequence[str] | None = None) -> int:
    logging.set_verbosity(
        logging.ERROR
    )  # orbax warns of what it does not find in a checkpoint that it has just written
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except (CheckpointError, OSError) as error:
        print(f"qomni_jax.interop {options.name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _inspect(options: argparse.Namespace) -> int:
    first = Path(options.checkpoint[0])
    if is_ours(first):
        if len(options.checkpoint) > 1:
            raise CheckpointError(f"{first}: is complete: accepted is this one alone")
        found = inventory_of_ours(first)
    else:
        found = inventory(read_released(options.checkpoint, options.config))
    print(describe(found))
    _write_json(options.json, found)
    return 0


def _convert(options: argparse.Namespace) -> int:
    require_new(options.out)
    first = Path(options.checkpoint[0])
    if is_ours(first):
        raise CheckpointError(f"{first}: is converted already: accepted is a released checkpoint")
    part = choose_part(options.part, options.checkpoint)
    skipped = left_alone(part, read_released(options.checkpoint))
    if skipped:
        print(not_loaded_note(skipped, PARTS[part]))
    taken = convert_part(part, options.checkpoint, options.out, options.dtype)
    print(f"wrote {options.out}: {taken.family}, {PARTS[part]}, {taken.parameters:,} parameters")
    return 0


def _export(options: argparse.Namespace) -> int:
    require_new(options.out)
    part = choose_part(options.part, options.checkpoint)
    taken = export_part(part, options.checkpoint, options.out, options.dtype, options.experts, options.max_shard_size)
    print(
        f"wrote {options.out}: {taken.family}, {PARTS[part]}, {taken.parameters:,} parameters in "
        f"{len(taken.files)} files"
    )
    return 0


def _verify(options: argparse.Namespace) -> int:
    report = verify(options.checkpoint or [], options.golden)
    width = max(map(len, report["tensors"]))
    for name, row in report["tensors"].items():
        error = "not finite" if row["max_abs_err"] is None else f"{row['max_abs_err']:.3e}"
        state = "input" if row.get("input") else "ok" if row["ok"] else "OUT OF TOLERANCE"
        print(f"{name:{width}}  max_abs_err {error:>10}  rms {row['rms']:.3e}  {state}")
    for name in report["skipped"]:
        print(f"{name:{width}}  skipped")
    _write_json(options.json, report)
    return 0 if report["ok"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m qomni_jax.interop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="name", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        return added

    released = "a released directory (config.json and safetensors files); repeat to add tensors kept in another one"
    dtype = "type of all parameters; by default each keeps its own"
    part = "what to take; by default all that there is"

    inspecting = add("inspect", _inspect, "family, sizes and parameter totals; reads no weights")
    inspecting.add_argument(
        "--checkpoint",
        action="append",
        required=True,
        help=f"what convert wrote; {released}; or a text file of keys and shapes",
    )
    inspecting.add_argument("--config", type=Path, help="config.json, where it does not stand beside the checkpoint")
    inspecting.add_argument("--json", type=Path, help="write the findings here")

    converting = add("convert", _convert, "released checkpoint -> ours (orbax, config.json, tokenizer)")
    converting.add_argument("--checkpoint", action="append", required=True, help=released)
    converting.add_argument("--out", type=Path, required=True, help="new directory")
    converting.add_argument("--part", choices=tuple(PARTS), help=part)
    converting.add_argument("--dtype", choices=("float32", "bfloat16"), help=dtype)

    exporting = add("export", _export, "our checkpoint, or a released one -> safetensors files that transformers loads")
    exporting.add_argument("--checkpoint", action="append", required=True, help="what convert wrote; or " + released)
    exporting.add_argument("--out", type=Path, required=True, help="new directory")
    exporting.add_argument("--part", choices=tuple(PARTS), help=part)
    exporting.add_argument("--dtype", choices=("float32", "bfloat16"), help=dtype)
    exporting.add_argument(
        "--max_shard_size", type=_size, default="5GB", help="largest file, such as 500MB (default 5GB)"
    )
    exporting.add_argument(
        "--experts",
        choices=("fused", "per_expert"),
        help="one tensor for all experts or one each; default as it came, and fused for a Talker taken out of a model: "
        "transformers' class of a Talker alone reads no other",
    )

    verifying = add("verify", _verify, "our computation against every tensor of a golden file, in float32")
    verifying.add_argument("--checkpoint", action="append", help="what convert wrote; or " + released)
    verifying.add_argument(
        "--golden", type=Path, required=True, help="safetensors file with inputs and expected tensors"
    )
    verifying.add_argument("--json", type=Path, help="write the report here")
    return parser


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+)(KB|MB|GB|)", text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: accepted is a number of bytes, KB, MB or GB, such as 500MB")
    return int(match[1]) * _UNITS[match[2]]


def _write_json(path: Path | None, value: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
