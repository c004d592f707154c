"""A small problem with all that updates stumble over: untouched rows, a weight without gradient, dropout."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.types import Closure, Losses, Moment
from trainables.updates import UPDATES
from trainables.updates.base import Stepper, Update


class Problem:
    """Embedding rows of which a batch touches some, a matrix, and a weight that no loss depends on; with dropout.

    The weight `branch` takes part in the loss in some passes only, as a branch of a model that is switched at random.
    """

    def __init__(self, dtype: torch.dtype = torch.float32, *, dropout: float = 0.3, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(1)
        self.table = torch.randn(8, 3, generator=generator, dtype=dtype).requires_grad_()
        self.matrix = torch.randn(3, 3, generator=generator, dtype=dtype).requires_grad_()
        self.unused = torch.randn(4, generator=generator, dtype=dtype).requires_grad_()
        self.branch = torch.randn(3, generator=generator, dtype=dtype).requires_grad_()
        self.weights = [self.table, self.matrix, self.unused, self.branch]
        self.dropout = dropout
        self.scale = scale

    def closure(self, rows: Sequence[int], seed: int = 0, branch_in: Sequence[int] = ()) -> Closure:
        """The loss of a batch of rows; `branch` takes part in the given passes, counted from 0."""
        draws, passes = 0, 0

        def compute(*, fresh: bool = False) -> Losses:
            nonlocal draws, passes
            draws += fresh
            with torch.random.fork_rng([]):
                torch.manual_seed(1000 * seed + (draws if fresh else 0))
                hidden = torch.nn.functional.dropout(self.table[list(rows)] @ self.matrix, self.dropout)
                loss = (hidden**2).mean() + hidden.sum().sin()
                if passes in branch_in:
                    loss = loss + (hidden @ self.branch).tanh().sum()
            passes += 1
            return Losses.of(loss=self.scale * loss)

        return compute

    def batch(self, k: int) -> Closure:
        """Batch k touches rows k, k+1 and k+2."""
        return self.closure([k % 8, (k + 1) % 8, (k + 2) % 8], seed=k)

    def stepper(self, optimizer: str = "adam", rate: float = 0.05, **options: float) -> Stepper:
        kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        made = kinds[optimizer](self.weights, lr=rate, **options)
        return Stepper(self.weights, made, names=["table", "matrix.weight", "unused", "branch"])

    def trained(
        self, update: Update, groups: Sequence[Sequence[int]], optimizer: str = "adam", **options: float
    ) -> list[Tensor]:
        """The weights after one step a group of batches."""
        stepper = self.stepper(optimizer, **options)
        for step, group in enumerate(groups):
            update([self.batch(k) for k in group], stepper, Moment(1, step))
        self.evaluations, self.steps = stepper.gradient_evaluations, stepper.optimizer_steps
        return [weight.detach().clone() for weight in self.weights]

    def gradient(self, k: int) -> list[Tensor | None]:
        """The gradients of batch k at the present weights."""
        return list(torch.autograd.grad(self.batch(k)().total, self.weights, allow_unused=True))


SINGLES = [[k] for k in range(6)]
PAIRS = [[0, 1], [2, 3], [4, 5]]


def make(name: str, **numbers: object) -> Update:
    """The update of that name with these numbers."""
    return UPDATES[name](UPDATES[name].Config.model_validate(numbers))


def same(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    """Whether both agree to the bit."""
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def flat(parts: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    """The parts as one float64 vector, zeros for None."""
    pairs = zip(parts, like, strict=True)
    return torch.cat([(torch.zeros_like(w) if p is None else p).detach().double().flatten() for p, w in pairs])
