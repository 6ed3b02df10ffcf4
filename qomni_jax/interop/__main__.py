"""Released checkpoints in and out: `python -m qomni_jax.interop inspect|convert|export|verify`.

Reads Qwen3.5 (dense and mixture of experts, with vision or without), Qwen3-Next and Qwen3-Omni. Where a checkpoint has
encoders, `convert` and `export` take the whole Thinker: language model, encoders, and the files of tokenizer and
processor beside them; `--part=language_model` takes that part alone; Talker and codec of Qwen3-Omni are listed and left
alone. `inspect`, `export` and `verify` read what `convert` wrote as they read the checkpoint that it came from.
`verify` also reads the audio encoder of Qwen3-Omni, the vision encoders of Qwen3.5 and Qwen3-Omni, and Qwen3-Omni's
Talker, each alone, and the whole of Qwen3-Omni with its speech; `verify` and `inspect` also codecs: Qwen3-Omni's
Code2Wav, the decoder of the Qwen3-TTS 12 Hz tokenizer, and Mimi. Exit code 0: done. 1: `verify` found a tensor out of
tolerance. 2: an input is not accepted, and nothing was written; one line says which and why.
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
from qomni_jax.interop.key_map import Layout
from qomni_jax.interop.model import open_language_model
from qomni_jax.interop.plan import make_plan
from qomni_jax.interop.released import Released, read_released
from qomni_jax.interop.save import export, export_thinker
from qomni_jax.interop.storage import is_converted, save
from qomni_jax.interop.thinker_form import has_encoders
from qomni_jax.interop.thinker_model import describe_ours, make_thinker_plan, open_thinker, save_converted
from qomni_jax.interop.verify import verify
from qomni_jax.storage.arrays import flat
from qomni_jax.storage.errors import CheckpointError
from qomni_jax.storage.files import require_new
from qomni_jax.thinker.storage import is_thinker

_PARTS = {"thinker": "Thinker", "language_model": "language model"}
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
    if _is_ours(first):
        _require_alone(options.checkpoint)
        found = inventory_of_ours(first)
    else:
        found = inventory(read_released(options.checkpoint, options.config))
    print(describe(found))
    _write_json(options.json, found)
    return 0


def _convert(options: argparse.Namespace) -> int:
    require_new(options.out)
    first = Path(options.checkpoint[0])
    if _is_ours(first):
        raise CheckpointError(f"{first}: is converted already: accepted is a released checkpoint")
    released = read_released(options.checkpoint)
    part = options.part or _part_of(released)
    is_whole = part == "thinker"
    skipped = make_thinker_plan(released).not_loaded if is_whole else make_plan(released).not_loaded
    if skipped:
        print(not_loaded_note(skipped, _PARTS[part]))
    if is_whole:
        opened, parameters = open_thinker(options.checkpoint, dtype=options.dtype)
        save_converted(options.out, opened, parameters, first)
        family = opened.released_form(released.source).family
    else:
        description, parameters = open_language_model(options.checkpoint, dtype=options.dtype)
        save(options.out, description, parameters)
        family = description.family
    print(f"wrote {options.out}: {family.name}, {_PARTS[part]}, {_count(parameters):,} parameters")
    return 0


def _export(options: argparse.Namespace) -> int:
    require_new(options.out)
    first = Path(options.checkpoint[0])
    part = options.part
    if is_converted(first):
        if part == "thinker":
            raise CheckpointError(f"{first}: holds a language model alone: accepted is --part=language_model")
        part = "language_model"
    elif part is None:
        part = "thinker" if is_thinker(first) else _part_of(read_released(options.checkpoint))
    if part == "thinker":
        if is_thinker(first):  # before the weights are read: there may be no release of its kind
            describe_ours(options.checkpoint).released_form(str(first))
        opened, parameters = open_thinker(options.checkpoint, dtype=options.dtype)
        form = opened.released_form(str(first))
        form = form._replace(layout=_layout(form.layout, options))
        files = export_thinker(options.out, opened, form, parameters, first, max_shard_bytes=options.max_shard_size)
        family = form.family
    else:
        description, parameters = open_language_model(options.checkpoint, dtype=options.dtype)
        description = description._replace(layout=_layout(description.layout, options))
        files = export(options.out, description, parameters, max_shard_bytes=options.max_shard_size)
        family = description.family
    print(
        f"wrote {options.out}: {family.name}, {_PARTS[part]}, {_count(parameters):,} parameters in {len(files)} files"
    )
    return 0


def _is_ours(path: Path) -> bool:
    return is_converted(path) or is_thinker(path)


def _require_alone(paths: Sequence[str]) -> None:
    if len(paths) > 1:
        raise CheckpointError(f"{paths[0]}: is complete: accepted is this one alone")


def _part_of(released: Released) -> str:
    """What is taken of a released checkpoint where it is not said."""
    return "thinker" if has_encoders(released.config or {}) else "language_model"


def _layout(layout: Layout, options: argparse.Namespace) -> Layout:
    return layout._replace(experts=options.experts, mtp_experts=options.experts) if options.experts else layout


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
    part = "what to take; by default the whole Thinker where there are encoders"

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
    converting.add_argument("--part", choices=tuple(_PARTS), help=part)
    converting.add_argument("--dtype", choices=("float32", "bfloat16"), help=dtype)

    exporting = add("export", _export, "our checkpoint, or a released one -> safetensors files that transformers loads")
    exporting.add_argument("--checkpoint", action="append", required=True, help="what convert wrote; or " + released)
    exporting.add_argument("--out", type=Path, required=True, help="new directory")
    exporting.add_argument("--part", choices=tuple(_PARTS), help=part)
    exporting.add_argument("--dtype", choices=("float32", "bfloat16"), help=dtype)
    exporting.add_argument(
        "--max_shard_size", type=_size, default="5GB", help="largest file, such as 500MB (default 5GB)"
    )
    exporting.add_argument(
        "--experts", choices=("fused", "per_expert"), help="one tensor for all experts or one each; default as it came"
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


def _count(parameters: Any) -> int:
    return sum(leaf.size for leaf in flat(parameters).values())


def _write_json(path: Path | None, value: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
