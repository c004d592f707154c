"""PyTorch's optimisers without PyTorch's compiler.

Their methods import `torch._dynamo` at the first call, only to tell it to leave them alone: a second of CPU and 65 MB
in every process that trains. Nothing here is compiled, so they are told beforehand that this is settled.
"""

import inspect
from collections.abc import Callable

import torch


def spare_compiler() -> None:
    """Makes PyTorch's optimisers callable without importing its compiler; again and again is the same as once.

    What their decorator has found out at a method's first call it keeps as an attribute of the method. Where another
    version of PyTorch keeps it elsewhere, the compiler is imported as ever, and nothing else changes.
    """
    for method in vars(torch.optim.Optimizer).values():
        if inspect.isfunction(method) and "_disable_dynamo" in method.__code__.co_qualname:
            undecorated = inspect.unwrap(method)
            setattr(undecorated, "__dynamo_disable", undecorated)


def bare_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """The optimiser's step, bit for bit, without hooks, profiler's marks and breaks for the compiler.

    Only for optimisers that nobody differentiates through.
    """
    step = inspect.unwrap(type(optimizer).step)

    def without_gradients() -> object:
        with torch.no_grad():
            return step(optimizer)

    return without_gradients
