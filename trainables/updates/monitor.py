"""What a perturbation is like: looked at on some steps, averaged over an epoch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.vectors import Gradients, active_rows, global_norm, inner


class Monitor:
    """Means over the steps that were looked at since the last reading.

    `coefficient`: how much of its memory the direction left out (BSAM's c). `cosine`: cos(ε, g); below 0 the
    perturbation goes down instead of up. `rise`: L(θ + ε) - L(θ) on the batch. `inactive`: share of ‖ε‖² on rows of
    tables that have no gradient in the batch, a radius spent for nothing. `unperturbed`: steps of all, looked at or
    not, whose direction had no length, as a count.
    """

    def __init__(self, every: int) -> None:
        """Looks at one of `every` perturbed steps, the first among them; 0 looks at none."""
        self.every = every
        self._start()

    def _start(self) -> None:
        self.steps = 0
        self.unperturbed = 0
        self.looks = False
        self.found: dict[str, list[float]] = {}
        self.rises: list[Tensor] = []

    def look(self, gradients: Gradients, offsets: Gradients, coefficient: float | None) -> None:
        """Sees a step's gradients at θ and its ε."""
        none = all(offset is None for offset in offsets)
        self.looks = self.every > 0 and self.steps % self.every == 0 and not none
        self.steps += 1
        self.unperturbed += none
        if not self.looks:
            return
        lengths = global_norm(gradients) * global_norm(offsets)
        if lengths > 0:
            self._note("cosine", inner(gradients, offsets) / lengths)
            self._note("inactive", _inactive_share(gradients, offsets))
        if coefficient is not None:
            self._note("coefficient", coefficient)

    def rise(self, perturbed: Tensor, loss: float) -> None:
        """Sees the same step's loss at θ + ε and at θ."""
        if self.looks:
            self.rises.append(perturbed.double() - loss)

    def means(self) -> Mapping[str, float]:
        """The means, by name; starts anew."""
        means = {name: sum(values) / len(values) for name, values in self.found.items()}
        if self.rises:
            means["rise"] = float(torch.stack(self.rises).mean())
        if self.every and self.steps:
            means["unperturbed"] = float(self.unperturbed)
        self._start()
        return means

    def _note(self, name: str, value: float) -> None:
        self.found.setdefault(name, []).append(value)


def _inactive_share(gradients: Gradients, offsets: Gradients) -> float:
    """Share of ‖ε‖² in rows without gradient, of tensors with at least two dimensions."""
    idle: Gradients = [
        torch.where(active_rows(gradient), 0.0, offset) if gradient.ndim > 1 else torch.zeros_like(offset)
        for gradient, offset in zip(gradients, offsets, strict=True)
        if gradient is not None and offset is not None
    ]
    return (global_norm(idle) / global_norm(offsets)) ** 2
