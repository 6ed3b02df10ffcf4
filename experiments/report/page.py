"""The report as one self-contained HTML page: style, script, pictures and audio inline, no request to anywhere."""

from collections.abc import Mapping
from html import escape
import importlib.resources
from typing import Any

from experiments.report import samples, tables
from experiments.report.figures import draw, paint_curves, paint_lag, paint_wer
from experiments.report.inputs import SETS, Study
from experiments.report.verdict import percent


def render(study: Study, report: dict[str, Any]) -> str:
    """The page of a study. Raises ReportError where a sentence names audio that is not there."""
    title = escape(report["title"])
    sections = {
        "The claim": _claim(report),
        "What was run": _what_was_run(report),
        "Word errors": _word_errors(report),
        "Learning curves": _curves(study, report),
        "Lag between text and voice": _lag(report),
        "Delay and speed": tables.costs_table(report),
        "Listen": samples.players(study, report),
        "One sentence, interleaved": samples.interleaving(study, report),
        "Limits of the study": "<ul>" + "".join(f"<li>{escape(limit)}</li>" for limit in report["limits"]) + "</ul>",
        "Configuration": f"<details><summary>The operative "
        f"configuration</summary><pre>{escape(study.run.config)}</pre></details>",
    }
    body = "".join(f"<section><h2>{name}</h2>{html}</section>" for name, html in sections.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{_asset('page.css')}</style></head>"
        f'<body><h1>{title}</h1><p class="dim">Started {escape(study.run.started)}</p>{body}'
        f"<script>{_asset('page.js')}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return importlib.resources.files("experiments.report").joinpath(name).read_text(encoding="utf-8")


def _claim(report: dict[str, Any]) -> str:
    answers = "".join(f"<p>{escape(sentence)}</p>" for sentence in report["verdict"])
    judge = report["judge"]
    return (
        f'<p>{escape(report["claim"])}</p><div class="verdict"><strong>What the data say</strong>{answers}</div>'
        f'<p class="dim">The judge is {escape(judge["name"])}; it makes {percent(judge["clean_wer"])} errors on '
        f"clean short sentences.</p>"
    )


def _what_was_run(report: dict[str, Any]) -> str:
    run, judge = report["run"], report["judge"]
    seconds = {name: f"{value:,.0f} s" for name, value in run["seconds"].items()}
    if len(seconds) > 1:
        seconds["together"] = f"{sum(run['seconds'].values()):,.0f} s"
    codec = {
        **report["codec"]["settings"],
        "STOI of the decoder": _rounded(report["codec"]["stoi"]),
        "STOI of Griffin-Lim": _rounded(report["codec"]["griffin_lim_stoi"]),
    }
    parts = {
        "Corpus": report["corpus"],
        "Codec": codec,
        "Judge": {"recogniser": judge["name"], "grammar": judge.get("grammar"), **dict(judge.get("settings") or {})},
        "Time by stage": seconds,
        "Machine": run["machine"],
        "Versions": run["versions"],
    }
    listed = "".join(f"<div><h3>{name}</h3>{_definitions(values)}</div>" for name, values in parts.items())
    return f'<pre>{escape(run["command"])}</pre>{_arms(report)}<div class="parts">{listed}</div>'


def _arms(report: dict[str, Any]) -> str:
    rows = {
        scheme["label"]: ", ".join(
            [
                f"{scheme['parameters'] / 1e6:.2f} M parameters",
                f"{scheme['steps']:,} steps",
                f"seeds {', '.join(map(str, scheme['seeds']))}",
                *(f"{name} = {value}" for name, value in scheme["options"].items()),
            ]
        )
        for scheme in report["schemes"].values()
    }
    return f"<h3>Schemes</h3>{_definitions(rows)}"


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _definitions(values: Mapping[str, Any]) -> str:
    known = {name: value for name, value in values.items() if value is not None}
    return (
        "<dl>" + "".join(f"<dt>{escape(str(n))}</dt><dd>{escape(_plain(v))}</dd>" for n, v in known.items()) + "</dl>"
    )


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value)


def _word_errors(report: dict[str, Any]) -> str:
    names = [name for name in SETS if any(name in scheme["sets"] for scheme in report["schemes"].values())]
    picture = draw(lambda figure: paint_wer(figure, report), (8, 4.2), "wer")
    parts = [
        f"<figure>{picture}<figcaption>Each scheme at the decoding with the lower word error rate on short "
        f"sentences; bars "
        "are 95 % bootstrap intervals over sentences, seeds pooled.</figcaption></figure>",
        '<p class="dim">S, D, I and repeats are fractions of the reference words; a repeat is a word, or a run of '
        "words, said again "
        "at once though the text does not repeat it (such words also count as errors). An early stop ends before the "
        "text does, "
        "a runaway is cut off. Length is that of the speech over that of the reference.</p>",
        *(tables.results_table(report, name) for name in names),
    ]
    if report["paired"]:
        parts.append(f"<h3>Differences</h3>{tables.paired_table(report)}")
    parts.append(f"<h3>Seeds</h3>{tables.seeds_table(report)}")
    return "".join(parts)


def _curves(study: Study, report: dict[str, Any]) -> str:
    if not any(point.wer for result in study.results for point in result.curve):
        return "<p>The study measured no word errors during training.</p>"
    picture = draw(lambda figure: paint_curves(figure, study), (8, 6), "curves")
    note = "<figcaption>Left at equal steps, right at equal CPU time. Thin lines are single seeds.</figcaption>"
    equal = tables.equal_cpu_table(report) if report["equal_cpu"] else ""
    return f"<figure>{picture}{note}</figure>{equal}"


def _lag(report: dict[str, Any]) -> str:
    if not any(scheme["lag"] for scheme in report["schemes"].values()):
        return "<p>The study kept too few word times to draw the lag.</p>"
    picture = draw(lambda figure: paint_lag(figure, report), (8, 3.6), "lag")
    return (
        f"<figure>{picture}<figcaption>From the arrival of a word's text in the stream to the word being heard by "
        f"the judge, "
        "median and quartiles over the words of one second, on long sentences where the study has them. A line that "
        "climbs is a "
        "voice that falls behind its text; below zero the voice comes before its text.</figcaption></figure>"
    )
