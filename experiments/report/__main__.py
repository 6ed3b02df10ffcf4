"""Builds the report of a study, finished or not: `python -m experiments.report --workdir=D`. Reads results only."""

import argparse
import pathlib
import sys

from experiments.report import ReportError, build_report, write_summary_markdown


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.report", description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="where experiments.aria_ablation wrote")
    workdir = parser.parse_args(arguments).workdir
    try:
        report = build_report(workdir)
    except ReportError as error:
        print(f"experiments.report: {error}", file=sys.stderr)
        return 1
    print(write_summary_markdown(report))
    print(f"wrote {workdir / 'report.html'} and {workdir / 'report.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
