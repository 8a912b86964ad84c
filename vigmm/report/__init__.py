"""One HTML file that tells what a run found and how far to trust it."""

from vigmm.report.build import Report, write_report

__all__ = ["Report", "write_report"]
