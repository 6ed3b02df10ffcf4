"""The report of an ARIA study: `report.json`, a self-contained `report.html`, a picture, and a Markdown table."""

from experiments.report.build import build_report
from experiments.report.markdown import write_summary_markdown
from experiments.report.records import ReportError

__all__ = ["ReportError", "build_report", "write_summary_markdown"]
