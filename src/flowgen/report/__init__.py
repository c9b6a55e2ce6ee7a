"""The report of a run: one self-contained HTML file made from the files of its folder."""

from flowgen.report.page import render
from flowgen.report.run_files import Run, Session, is_run, read_run
from flowgen.report.writing import REPORT, write_report

__all__ = ["REPORT", "Run", "Session", "is_run", "read_run", "render", "write_report"]
