"""Builds the report of a work directory; every file is written whole or not at all."""

import json
import os
import pathlib
from typing import Any

from experiments.files import write_atomically
from experiments.report import figures, page
from experiments.report.inputs import load_study
from experiments.report.summary import summarise
from experiments.report.verdict import CLAIM, limits, verdict


def build_report(workdir: str | os.PathLike) -> dict[str, Any]:
    """Reads `results/` and `run.json` of a work directory, writes `report.json`, `report.html` and `figures/main.png`.

    Returns what `report.json` holds. Raises ReportError, one line naming the file, for a missing or corrupt result.
    """
    workdir = pathlib.Path(workdir)
    study = load_study(workdir)
    report = summarise(study)
    report["claim"], report["verdict"], report["limits"] = CLAIM, verdict(report), limits(report)
    html = page.render(study, report)
    picture = figures.main_png(report)
    write_atomically(workdir / "figures" / "main.png", picture)
    write_atomically(workdir / "report.html", html)
    write_atomically(workdir / "report.json", json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return report
