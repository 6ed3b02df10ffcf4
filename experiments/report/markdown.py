"""The study's table as Markdown, for a README or a document."""

from typing import Any

from experiments.report.inputs import SETS
from experiments.report.verdict import percent, verdict


def write_summary_markdown(report: dict[str, Any]) -> str:
    """Word error rates by arm and set as a Markdown table with the ceiling under it, and the verdict."""
    names = [name for name in SETS if any(name in scheme["sets"] for scheme in report["schemes"].values())]
    lines = [
        "| scheme | decoding | "
        + " | ".join(f"{name} WER" for name in names)
        + " | short S / D / I | first audio | train CPU | seeds |",
        "|---" * (len(names) + 6) + "|",
    ]
    for scheme in report["schemes"].values():
        for decoding in [key for key in ("greedy", "sampled") if key in scheme["sets"]["short"]]:
            cells = [_wer(scheme["sets"].get(name, {}).get(decoding)) for name in names]
            kinds = " / ".join(
                percent(scheme["sets"]["short"][decoding][kind])
                for kind in ("substitutions", "deletions", "insertions")
            )
            best = f"**{decoding}**" if decoding == scheme["decoding"] else decoding
            frames, cpu = scheme["first_audio_frames"], scheme["train_cpu_seconds"]
            first = "–" if frames is None else f"{frames:.1f} frames"
            row = [scheme["label"], best, *cells, kinds, first, f"{cpu:.0f} s", str(len(scheme["seeds"]))]
            lines.append(f"| {' | '.join(row)} |")
    stages = {"clean speech": report["judge"]["sets"], "codec resynthesis": report["codec"]["sets"]["resynthesis"]}
    for label, cells_by_set in stages.items():
        cells = [_wer(cells_by_set.get(name)) for name in names]
        lines.append(f"| {' | '.join([label, '–', *cells, '–', '–', '–', '–'])} |")
    judge = report["judge"]
    lines += [
        "",
        f"WER with its 95 % bootstrap interval over sentences, seeds pooled; bold: the decoding with the lower short "
        f"WER. Judge: "
        f"{judge['name']}, {percent(judge['clean_wer'])} on clean short sentences.",
        "",
        *verdict(report),
    ]
    return "\n".join(lines) + "\n"


def _wer(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "–"
    wer = cell["wer"]
    return f"{percent(wer['mean'])} [{100 * wer['low']:.1f}, {100 * wer['high']:.1f}]"
