"""What a perturbation is like: looked at on some steps, averaged over an epoch."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trainables.vectors import Gradients, Number, active_rows, global_norm, inner


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
        self.unperturbed: Number = 0
        self.looks = False
        self.found: dict[str, list[tuple[Number, Tensor]]] = {}

    def look(
        self, gradients: Gradients, offsets: Gradients, coefficient: Number | None, usable: Bool[Tensor, ""]
    ) -> None:
        """Sees a step's gradients at θ, its ε, and whether its direction had a length."""
        if not self.every:
            return
        self.looks = self.steps % self.every == 0 and any(offset is not None for offset in offsets)
        self.steps += 1
        self.unperturbed = self.unperturbed + ~usable
        if not self.looks:
            return
        self.usable = usable
        lengths = global_norm(gradients) * global_norm(offsets)
        self._note("cosine", inner(gradients, offsets) / lengths, lengths > 0)
        self._note("inactive", _inactive_share(gradients, offsets), lengths > 0)
        if coefficient is not None:
            self._note("coefficient", coefficient, usable)

    def rise(self, perturbed: Tensor, loss: Number) -> None:
        """Sees the same step's loss at θ + ε and at θ."""
        if self.looks:
            self._note("rise", perturbed.double() - loss, self.usable)

    def means(self) -> Mapping[str, float]:
        """The means, by name; starts anew. Only here is a number read: no step waits for a GPU."""
        known = {name: [float(value) for value, counts in pairs if counts] for name, pairs in self.found.items()}
        means = {name: sum(values) / len(values) for name, values in known.items() if values}
        if self.steps:
            means["unperturbed"] = float(self.unperturbed)
        self._start()
        return means

    def _note(self, name: str, value: Number, counts: Tensor) -> None:
        """Keeps a value, and whether it is one."""
        self.found.setdefault(name, []).append((value, counts))


def _inactive_share(gradients: Gradients, offsets: Gradients) -> Float[Tensor, ""]:
    """Share of ‖ε‖² in rows without gradient, of tensors with at least two dimensions."""
    idle: Gradients = [
        torch.where(active_rows(gradient), 0.0, offset) if gradient.ndim > 1 else torch.zeros_like(offset)
        for gradient, offset in zip(gradients, offsets, strict=True)
        if gradient is not None and offset is not None
    ]
    return (global_norm(idle) / global_norm(offsets)).square()
