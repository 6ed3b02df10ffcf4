"""The report's pictures by matplotlib: inline SVG that follows the page's light or dark colours, and `main.png`."""

from collections.abc import Callable, Sequence
import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from experiments.report.inputs import SETS, Result, Study
from experiments.report.verdict import SET_NAMES

# Told apart by people with colour blindness (after Okabe and Ito), and readable on white and on near-black.
COLOURS = ("#3d85c6", "#e0802b", "#23a17f", "#b565b8", "#c4a000", "#8a8f98")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_INK = "#010203"  # replaced by the page's own text colour
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def colour(index: int) -> str:
    """The colour of the arm with that place in the study."""
    return COLOURS[index % len(COLOURS)]


def draw(paint: Callable[[Figure], None], size: tuple[float, float], name: str) -> str:
    """An `<svg>` element without addresses, as wide as the page; `name` keeps its ids apart from other pictures'."""
    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
    style: dict[Any, Any] = {**_STYLE, **dict.fromkeys(inked, _INK), "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return re.sub(r"(id=\"|url\(#|href=\"#)", rf"\g<1>{name}-", svg).replace(_INK, "currentColor")


def main_png(report: dict[str, Any]) -> bytes:
    """Word error rate by scheme and set with intervals, on white, as PNG."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8, 4.2), layout="constrained", dpi=150, facecolor="white")
        paint_wer(figure, report)
        figure.suptitle(report["title"], fontsize=11)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def paint_wer(figure: Figure, report: dict[str, Any]) -> None:
    """Word error rates of every arm at its own decoding, by set; ticks mark clean speech and codec resynthesis."""
    axes = figure.subplots()
    schemes = report["schemes"]
    names = [name for name in SETS if any(name in scheme["sets"] for scheme in schemes.values())]
    width = 0.8 / len(schemes)
    for index, scheme in enumerate(schemes.values()):
        rows = [scheme["sets"].get(name, {}).get(scheme["decoding"]) for name in names]
        present = [place for place, row in enumerate(rows) if row]
        wers = [row["wer"] for row in rows if row]
        middle = np.array([100 * wer["mean"] for wer in wers])
        reach = np.array([[100 * (wer["mean"] - wer["low"]), 100 * (wer["high"] - wer["mean"])] for wer in wers]).T
        at = np.array(present) - 0.4 + width * (index + 0.5)
        label = f"{scheme['label']} ({scheme['decoding']})"
        axes.bar(at, middle, width * 0.92, color=colour(index), label=label)
        axes.errorbar(
            at, middle, np.maximum(reach, 0), fmt="none", ecolor=matplotlib.rcParams["text.color"], capsize=3, lw=1
        )
    for stage, cells, style in (
        ("clean speech", report["judge"]["sets"], ":"),
        ("codec resynthesis", report["codec"]["sets"]["resynthesis"], "--"),
    ):
        for place, name in enumerate(names):
            if name in cells:
                rate, span = 100 * cells[name]["wer"]["mean"], (place - 0.45, place + 0.45)
                ink = matplotlib.rcParams["text.color"]
                axes.hlines(rate, *span, color=ink, ls=style, lw=1.3, label=stage if place == 0 else "_nolegend_")
    axes.set_xticks(range(len(names)), [SET_NAMES[name].replace(" ", "\n", 1) for name in names])
    axes.set_ylabel("word error rate, %")
    axes.set_ylim(bottom=0)
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)


def paint_curves(figure: Figure, study: Study) -> None:
    """Word error rate during training, short and long sentences, at equal steps and at equal CPU time."""
    grid = figure.subplots(2, 2, sharey="row", squeeze=False)
    for row, name in enumerate(("short", "long")):
        for column, (label, clock) in enumerate((("training step", "step"), ("CPU seconds", "cpu_seconds"))):
            axes = grid[row][column]
            for index, results in enumerate(study.arms().values()):
                _curve(axes, results, name, clock, index)
            axes.set_ylim(bottom=0)
            axes.set_title(f"{SET_NAMES[name]}, by {label}", fontsize=10)
            axes.set_xlabel(label)
        grid[row][0].set_ylabel("word error rate, %")
    handles, labels = grid[0][0].get_legend_handles_labels()
    if handles:
        grid[0][0].legend(handles, labels, fontsize=9)


def _curve(axes: Axes, results: Sequence[Result], name: str, clock: str, index: int) -> None:
    """Thin lines for the seeds, a thick one for their mean where all of them measured."""
    runs = [
        {point.step: (float(getattr(point, clock)), 100 * point.wer[name]) for point in r.curve if name in point.wer}
        for r in results
    ]
    runs = [run for run in runs if run]
    if not runs:
        return
    if len(runs) > 1:
        for run in runs:
            axes.plot(*zip(*run.values(), strict=True), color=colour(index), lw=0.7, alpha=0.5)
    steps = sorted(set.intersection(*(set(run) for run in runs)))
    if not steps:
        return
    mean = np.mean([[run[step] for step in steps] for run in runs], axis=0)
    marker = _MARKERS[index % len(_MARKERS)]
    axes.plot(mean[:, 0], mean[:, 1], color=colour(index), lw=2, marker=marker, ms=4, label=results[0].label)


def paint_lag(figure: Figure, report: dict[str, Any]) -> None:
    """Median lag between text and voice over the time of the audio, with its quartiles."""
    axes = figure.subplots()
    for index, scheme in enumerate(report["schemes"].values()):
        rows = scheme["lag"]
        if rows:
            time = [row["time"] for row in rows]
            axes.fill_between(
                time, [row["low"] for row in rows], [row["high"] for row in rows], color=colour(index), alpha=0.18
            )
            marker = _MARKERS[index % len(_MARKERS)]
            axes.plot(
                time,
                [row["median"] for row in rows],
                color=colour(index),
                lw=2,
                marker=marker,
                ms=4,
                label=scheme["label"],
            )
    axes.axhline(0, color=matplotlib.rcParams["text.color"], lw=0.8)
    axes.set_xlabel("time in the audio, s")
    axes.set_ylabel("lag of the voice behind its text, s")
    axes.legend(fontsize=9)


def paint_paths(figure: Figure, paths: Sequence[tuple[int, str, str]]) -> None:
    """Speech frames against text tokens of one sentence; `paths` holds (arm's place, label, interleaving)."""
    axes = figure.subplots()
    for index, label, letters in paths:
        text = np.cumsum([0, *(letter in "tb" for letter in letters)])
        speech = np.cumsum([0, *(letter in "sb" for letter in letters)])
        axes.plot(text, speech, color=colour(index), lw=1.8, label=label)
    axes.set_xlabel("text tokens so far")
    axes.set_ylabel("speech frames so far")
    axes.legend(fontsize=9)
