"""The first packet on TPU slices, from plans: what the compiled steps cannot go below. Bounds, not times.

Command: python -m experiments.bench streaming --predict --plans=DIR [--json=F]
Cost: none by itself. DIR holds what `python -m tpu_scripts.plan ... --json` wrote; for a plan that is not there, its
command is printed, which costs minutes of processor time.

A row of the table is a stage as in `experiments.bench.streaming`, two numbers of milliseconds: all resources of a chip
busy at once, and every operation and exchange in turn (`docs/scale.md`). The first packet is the sum of what has to
follow each other: the window that the question ends in, its 50 tokens and 14 of text through the Thinker, one more
token, the Talker's steps for two tokens of text and a frame, and a frame of the codec. Waiting, scheduling, transfers
to and from the host, and the vector unit are in none of it.
"""

import dataclasses
import json
import pathlib
from typing import Any

LEAD = 2
STAGES = {  # name in the table -> step, and how many of it the first packet waits for
    "encode": ("encode_audio", 1),
    "Thinker first token": ("prefill", 1),
    "Thinker token": ("decode", LEAD - 1),
    "Talker frame": ("talker_frame", LEAD + 1),
    "codec": ("codec_frame", 1),
}
_FLAGS = {
    "prefill": "--context=8192 --chunk=64",
    "decode": "--context=8192",
    "talker_frame": "--context=4096",
}


@dataclasses.dataclass(frozen=True)
class Place:
    """A size on a slice, with as many streams as the slice has rows."""

    size: str
    topology: str
    streams: int

    def file(self, step: str) -> str:
        """The name of the plan of a step."""
        return f"{self.size}_{self.topology.replace(':', '_')}_{step}.json"

    def command(self, step: str, directory: str) -> str:
        """What makes the plan of a step."""
        flags = [f"--size={self.size} --topology={self.topology} --step={step} --batch={self.streams}"]
        flags += [_FLAGS[step]] if step in _FLAGS else []
        return f"python -m tpu_scripts.plan {' '.join(flags)} --json={directory}/{self.file(step)}"


PLACES = (
    Place("flash", "v5e:4x4", 16),
    Place("flash", "v5p:2x2x2", 8),
    Place("plus", "v5p:4x4x4", 64),
)
# Table 2 of the report, audio in: milliseconds at 1, 4 and 8 streams on hardware that it does not name. It gives no row
# for encoding. The first packet with audio and with video in, at one stream, are its Table 1.
REPORT: dict[str, dict[str, tuple[float, ...]]] = {
    "flash": {
        "Thinker first token": (80, 86, 103),
        "Thinker token": (5.6, 8.2, 9.6),
        "Talker first frame": (56, 68, 81),
        "Talker frame": (14.2, 16.9, 20.5),
        "codec": (3, 5),
        "overall": (235, 298, 352),
        "real-time factor": (0.178, 0.211, 0.257),
    },
    "plus": {
        "Thinker first token": (162, 183, 260),
        "Thinker token": (17.4, 25.6, 33.3),
        "Talker first frame": (54, 72, 95),
        "Talker frame": (14.9, 21.0, 25.8),
        "codec": (3, 5),
        "overall": (435, 619, 955),
        "real-time factor": (0.187, 0.267, 0.334),
    },
}
FIRST_PACKET = {"flash": (235, 426), "plus": (435, 651)}
FRAME_SECONDS = 0.08


def predict(directory: str) -> list[dict[str, Any]]:
    """Rows of all places; prints the tables and the commands of the plans that are missing.

    Raises ValueError for a directory that is not there.
    """
    if not pathlib.Path(directory).is_dir():
        raise ValueError(f"--plans={directory}: accepted is a directory with what tpu_scripts.plan writes")
    rows: list[dict[str, Any]] = []
    for place in PLACES:
        found = stages(place, pathlib.Path(directory))
        rows += [{"case": f"{place.size} {place.topology} {name}", **row} for name, row in found.items()]
        print("\n".join(_table(place, found)))
        missing = [step for step, _ in STAGES.values() if not (pathlib.Path(directory) / place.file(step)).exists()]
        for step in missing:
            print(f"not there: {place.command(step, directory)}")
        print()
    return rows


def stages(place: Place, directory: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Seconds of every stage with a plan: `ours` the bound, `in_turn` one operation after another."""
    found: dict[str, dict[str, Any]] = {}
    sums = [0.0, 0.0]
    for name, (step, times) in STAGES.items():
        path = directory / place.file(step)
        if not path.exists():
            continue
        plan = json.loads(path.read_text())
        seconds = plan["step_seconds_bound"], plan["step_seconds_serial"]
        found[name] = _row(*seconds, bound_by=plan["bound_by"])
        sums = [total + times * one for total, one in zip(sums, seconds, strict=True)]
        if name == "Talker frame":
            found["Talker first frame"] = _row(*(times * one for one in seconds), bound_by=plan["bound_by"])
    if all(name in found for name in STAGES):
        found["overall"] = _row(*sums)
    if "Talker frame" in found:
        parts = [found[name] for name in ("Talker frame", "codec") if name in found]
        both = (sum(part[key] for part in parts) / FRAME_SECONDS for key in ("ours", "in_turn"))
        found["real-time factor"] = {**_row(*both), "unit": "times"}
    return found


def _row(bound: float, in_turn: float, **more: Any) -> dict[str, Any]:
    row = {"ours": bound, "in_turn": in_turn, "peer": None, "ratio": None, "unit": "s", "higher_is_better": False}
    return row | more


def _table(place: Place, found: dict[str, dict[str, Any]]) -> list[str]:
    report = REPORT[place.size]
    lines = [
        f"{place.size} on {place.topology}, up to {place.streams} streams: bounds of the compiled steps, no times",
        f"{'':22}{'bound':>10}{'in turn':>10}   report, 1 / 4 / 8 streams",
    ]
    for name in (*STAGES, "Talker first frame", "overall", "real-time factor"):
        theirs = " / ".join(f"{number:g}" for number in report.get(name, ()))
        theirs = "3 to 5" if name == "codec" else theirs
        if name not in found:
            lines.append(f"  {name:20}{'not planned':>20}   {theirs}")
            continue
        row = found[name]
        scale, unit = (1.0, "") if row["unit"] == "times" else (1e3, " ms")
        lines.append(f"  {name:20}{scale * row['ours']:10.3g}{scale * row['in_turn']:10.3g}{unit}   {theirs}")
    audio, video = FIRST_PACKET[place.size]
    return [*lines, f"  the report's first packet at one stream: {audio} ms with audio in, {video} ms with video in"]
