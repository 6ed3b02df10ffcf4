"""The report's tables as HTML."""

from collections.abc import Sequence
from html import escape
from typing import Any

from experiments.report.inputs import DECODINGS, SETS
from experiments.report.verdict import SET_NAMES, percent, points

_CELL_HEAD = ("WER <small>95 % interval</small>", "S", "D", "I", "repeats", "early stops", "runaways", "length")


def results_table(report: dict[str, Any], name: str) -> str:
    """Every arm and decoding on one set, with the ceiling under them."""
    clean = report["judge"]["sets"].get(name)
    rows = []
    for scheme in report["schemes"].values():
        for number, decoding in enumerate(key for key in DECODINGS if key in scheme["sets"].get(name, {})):
            kinds = ("first " if number == 0 else "") + ("best" if decoding == scheme["decoding"] else "")
            label = f"{escape(scheme['label'])} <small>{decoding}</small>"
            rows.append(_row(kinds.strip(), [label, *_cells(scheme["sets"][name][decoding]), _rate(clean)]))
    ceiling = {
        "Codec resynthesis": report["codec"]["sets"]["resynthesis"].get(name),
        "Griffin-Lim, no codec network": report["codec"]["sets"]["griffin_lim"].get(name),
        "Clean speech": clean,
    }
    for label, cell in ceiling.items():
        if cell:
            rows.append(_row("ceiling", [label, *_cells(cell), _rate(clean)]))
    size = f": {clean['sentences']} sentences, {clean['words']} words, under every training seed" if clean else ""
    caption = f"{SET_NAMES[name].capitalize()}{size}"
    return table(caption, ("scheme", *_CELL_HEAD, "judge on clean"), rows)


def _cells(cell: dict[str, Any]) -> list[str]:
    wer, length = cell["wer"], cell["duration_ratio"]
    return [
        f"{percent(wer['mean'])} <small>[{100 * wer['low']:.1f}, {100 * wer['high']:.1f}]</small>",
        *(
            percent(cell[kind])
            for kind in ("substitutions", "deletions", "insertions", "repeats", "early_stops", "runaways")
        ),
        "–" if length is None else f"{length:.2f}×",
    ]


def _rate(cell: dict[str, Any] | None) -> str:
    return percent(cell["wer"]["mean"] if cell else None)


def paired_table(report: dict[str, Any]) -> str:
    """Differences from ARIA by arm, set and decoding; those whose interval excludes zero stand out."""
    rows = []
    for arm, sets in report["paired"].items():
        for number, (name, differences) in enumerate(sets.items()):
            cells = [
                (f"<strong>{points(row)}</strong>" if row["excludes_zero"] else points(row)) if row else "–"
                for row in (differences.get(key) for key in ("best", *DECODINGS))
            ]
            rows.append(
                _row("first" if number == 0 else "", [escape(report["schemes"][arm]["label"]), SET_NAMES[name], *cells])
            )
    label = escape(report["schemes"][report["baseline"]]["label"])
    caption = (
        f"Word error rate less {label}'s on the same sentences; positive: {label} errs less. "
        "Bold: the interval excludes zero"
    )
    return table(caption, ("scheme", "set", "each at its better decoding", "both greedy", "both sampled"), rows)


def seeds_table(report: dict[str, Any]) -> str:
    """Word error rates of each training seed at the arm's decoding."""
    names = [name for name in SETS if any(name in scheme["sets"] for scheme in report["schemes"].values())]
    rows = []
    for scheme in report["schemes"].values():
        for number, (seed, sets) in enumerate(scheme["per_seed"].items()):
            cells = [percent(sets.get(name, {}).get(scheme["decoding"])) for name in names]
            rows.append(
                _row("first" if number == 0 else "", [escape(scheme["label"]), seed, scheme["decoding"], *cells])
            )
    return table("Word error rate by training seed", ("scheme", "seed", "decoding", *names), rows)


def costs_table(report: dict[str, Any]) -> str:
    """Size, training cost, delay and speed of every arm."""
    rows = []
    for scheme in report["schemes"].values():
        rows.append(
            _row(
                "",
                [
                    escape(scheme["label"]),
                    f"{scheme['parameters'] / 1e6:.2f} M",
                    f"{scheme['steps']:,}",
                    f"{scheme['train_seconds']:.0f} s",
                    f"{scheme['train_cpu_seconds']:.0f} s",
                    _number(scheme["first_audio_text_tokens"], "{:.1f}"),
                    _number(scheme["first_audio_frames"], "{:.1f}"),
                    _number(scheme["first_audio_ms"], "{:.0f} ms"),
                    _number(scheme["real_time_factor"], "{:.3f}"),
                ],
            )
        )
    head = (
        "scheme",
        "parameters",
        "steps",
        "training",
        "training CPU",
        "text tokens before audio",
        "frames before audio",
        "first audio",
        "real-time factor",
    )
    return table("Means over seeds; a real-time factor below 1 is faster than the speech lasts", head, rows)


def equal_cpu_table(report: dict[str, Any]) -> str:
    """The curves read at the CPU time that every run reached."""
    equal = report["equal_cpu"]
    rows = [
        _row(
            "",
            [
                escape(report["schemes"][arm]["label"]),
                _number(row["step"], "{:,.0f}"),
                *(percent(row["wer"].get(n)) for n in ("short", "long")),
            ],
        )
        for arm, row in equal["schemes"].items()
    ]
    caption = (
        f"Read from the curves at {equal['cpu_seconds']:.0f} CPU seconds, the last measurement of each run within them"
    )
    return table(caption, ("scheme", "step", "short WER", "long WER"), rows)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _row(kind: str, cells: Sequence[str]) -> str:
    opening = f'<tr class="{kind}">' if kind else "<tr>"
    return opening + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def table(caption: str, head: Sequence[str], rows: Sequence[str]) -> str:
    """A table that scrolls sideways on a phone; `head` and `rows` are HTML."""
    top = "".join(f'<th scope="col">{title}</th>' for title in head)
    return (
        f'<p class="dim caption">{caption}</p><div class="wide"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
