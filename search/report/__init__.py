"""Reports as self-contained HTML: the best configurations of a sweep, and the tuning-cost comparison of arms."""

from search.report.comparison_page import write_comparison
from search.report.sweep_page import write_report

__all__ = ["write_comparison", "write_report"]
