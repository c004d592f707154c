"""The service: which trials run, and what came out.

In a notebook: `from search import SweepSpec, load, run, Store, best, compare, confirm, convergence`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.comparison import compare
    from search.confirmation.runner import confirm
    from search.convergence_curves import convergence
    from search.driver import run
    from search.optuna_studies import study
    from search.protocols.runner import run_protocols
    from search.report.best import best
    from search.report.confirmed import confirmed
    from search.spec import SweepSpec, load
    from search.store import Store

__all__ = [
    "Store",
    "SweepSpec",
    "best",
    "compare",
    "confirm",
    "confirmed",
    "convergence",
    "load",
    "run",
    "run_protocols",
    "study",
]

_HOMES = {
    "Store": "search.store",
    "SweepSpec": "search.spec",
    "best": "search.report.best",
    "compare": "search.comparison",
    "confirm": "search.confirmation.runner",
    "confirmed": "search.report.confirmed",
    "convergence": "search.convergence_curves",
    "load": "search.spec",
    "run": "search.driver",
    "run_protocols": "search.protocols.runner",
    "study": "search.optuna_studies",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that reading a store does not import Ray or PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
