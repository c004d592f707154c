"""Reports as self-contained HTML: the best configurations of a sweep, the index of a store, the tuning-cost comparison,
the convergence."""

from search.report.comparison_page import write_comparison
from search.report.convergence_page import write_convergence
from search.report.index_page import write_index
from search.report.sweep_page import write_report

__all__ = ["write_comparison", "write_convergence", "write_index", "write_report"]
