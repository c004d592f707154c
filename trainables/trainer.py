"""The one training loop: builds a trial from its configuration and data, and runs it epoch by epoch, without Ray."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from trainables import checkpoints
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle, Interactions
from trainables.data.sampling import EpochSampler
from trainables.early_validation import EarlyValidation, estimate_of
from trainables.errors import Diverged, ModelError
from trainables.evaluation.ranking import RankingEvaluator
from trainables.models import MODELS
from trainables.objectives import OBJECTIVES
from trainables.precision import matrix_products
from trainables.progress import EpochReport, Progress
from trainables.seeding import numpy_stream, stream_seed, torch_stream
from trainables.types import Batch, Closure, Hidden, Losses, Moment
from trainables.updates import UPDATES
from trainables.updates.base import Stepper

EXPLOSION = 1e4
"""An epoch's mean loss beyond this many times the very first step's (or 1, if that is more) counts as divergence."""

REHEARSED_USERS = 2**15
"""Users up to which a rehearsal ranks all; a full validation of a million takes some 20 minutes."""


_Numbered: TypeAlias = tuple[int, Batch]


class Rehearsal(NamedTuple):
    """Seconds of a gradient evaluation, of a full validation and of an early one, which may be the same."""

    gradient_evaluation_s: float
    validation_s: float
    early_validation_s: float


class Trainer:
    """One trial: model, objective, update and optimiser over one data set.

    Everything random comes from streams named by (seed, purpose, epoch, batch), so two trainers of the same
    configuration and data agree bit for bit, and so does one that was saved and restored between two epochs.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: DataBundle,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Builds the trial at epoch 0.

        Raises:
            ModelError: the model cannot work with the data set.
        """
        self.config = config
        self.data = data
        self.device = torch.device(device)
        model_type, objective_type = MODELS[config.model_name], OBJECTIVES[config.objective_name]
        model = model_type(config.model, data, torch_stream(config.seed, "init", 0))  # type: ignore[call-arg, arg-type]
        self.model = model.to(self.device, dtype)
        if config.train.init_from is not None:
            self._start_from(Path(config.train.init_from))
        with torch.no_grad():
            # Of one item alone: for the widths nothing need be projected.
            first = torch.zeros(1, dtype=torch.int64, device=self.device)
            fused = self.model.eval().fuse(Batch(first, first, first[:, None]))
            widths = {name: h.shape[1] for name, h in fused.items()}
        objective = objective_type(config.objective, widths, torch_stream(config.seed, "init", 1))
        self.objective = objective.to(self.device, dtype)
        self.objective.check(self.model)
        self.stepper = self._make_stepper()
        self._normalisations = [part for part in self.model.modules() if isinstance(part, _BatchNorm)]
        self.update = UPDATES[config.update_name](config.update)
        self.sampler = EpochSampler(data.train, data.num_users, data.num_items, negatives=self.model.uses_negatives)
        self.evaluator = RankingEvaluator(data.train, data.valid, data.num_items)
        if len(self.evaluator.users) == 0:
            raise ModelError(f"data set {data.name!r}: no user of the validation split has training interactions")
        self._early = self._early_evaluator()
        self.progress = Progress()
        self.best_weights: dict[str, Tensor] = {}

    def _early_evaluator(self) -> tuple[EarlyValidation, RankingEvaluator] | None:
        """How early validations are made; None where they would be full ones.

        The sample hangs on the split's seed and not on the trial's: rungs compare trials of all seeds of a sweep.
        """
        early, users = self.config.train.early_validation, len(self.evaluator.users)
        if early is None:
            return None
        if early.users is None or early.users >= users:
            return None if early.precision == "float32" else (early, self.evaluator)
        stream = numpy_stream(self.config.data.split_seed, "early users")
        return early, self.evaluator.of_some(early.users, stream)

    def _start_from(self, folder: Path) -> None:
        """Takes the best weights of a trial of the same model, or its last ones where no validation was full."""
        stored, _ = checkpoints.load(folder, self.device)
        try:
            self.model.load_state_dict(stored["best_weights"] or stored["model"])
        except (KeyError, RuntimeError) as error:
            first = str(error).strip().splitlines()[-1].strip()
            raise ModelError(
                f"train.init_from must name a checkpoint of a {self.config.model_name} of the same sizes, but {folder} "
                f"does not fit: {first}"
            ) from None

    def _make_stepper(self) -> Stepper:
        parts = [*self.model.named_parameters(), *self.objective.named_parameters(prefix="objective")]
        trained = {name: param for name, param in parts if param.requires_grad}
        optimizer = self.config.optimizer
        params = list(trained.values())
        return Stepper(params, optimizer.build(params), names=list(trained), clip_norm=optimizer.clip_norm)

    @property
    def batches_per_epoch(self) -> int:
        """⌈E / batch size⌉ of one pass over the data; the last batch is short, none is dropped."""
        return -(-len(self.data.train) // self.config.train.batch_size)

    def run_epoch(self) -> EpochReport:
        """Trains one epoch and validates where due.

        Raises:
            Diverged: the loss is not finite any more, or exploded.
        """
        epoch = self.progress.epoch + 1
        start = time.perf_counter()
        try:
            losses = self._train_epoch(epoch)
        finally:
            # Also of an epoch that failed or diverged: what it cost counts (strategies.md §12).
            self.progress.gradient_evaluations = self.stepper.gradient_evaluations
            self.progress.optimizer_steps = self.stepper.optimizer_steps
            self.progress.train_seconds += time.perf_counter() - start
        self.progress.epoch = epoch
        train = self.config.train
        validation = None
        if epoch % train.validate_every == 0 or epoch == train.max_epochs:
            validation = self._validate()
        return EpochReport(epoch, losses, validation, self.progress.done(train), self.progress.as_dict())

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        self._start_epoch(epoch)
        with matrix_products(self.config.train.precision):
            steps = self._run_steps(self._groups(epoch), epoch)
        self.progress.samples += self.update.passes * len(self.data.train)
        return self._mean_losses(epoch, steps) | {
            f"update/{name}": value for name, value in self.update.diagnostics().items()
        }

    def _start_epoch(self, epoch: int) -> None:
        self.model.train()
        self.model.start_epoch(epoch, numpy_stream(self.config.seed, "graph", epoch))
        self.objective.start_epoch(epoch)
        self.stepper.evaluations_per_loss = self.objective.gradient_evaluations(epoch)
        self.stepper.learning_rate = self.config.optimizer.learning_rate_in(epoch)

    def _groups(self, epoch: int) -> list[Sequence[_Numbered]]:
        """The batches of each step, numbered so that every batch of the epoch has a number of its own."""
        passes = []
        for index in range(self.update.passes):
            batches = self._batches(epoch, index)
            passes.append(list(enumerate(batches, start=index * len(batches))))
        if len(passes) > 1:
            return list(zip(*passes, strict=True))
        (numbered,), width = passes, self.update.batches_per_step
        return [numbered[first : first + width] for first in range(0, len(numbered), width)]

    def _run_steps(self, groups: Sequence[Sequence[_Numbered]], epoch: int) -> list[Losses]:
        steps: list[Losses] = []
        for step, group in enumerate(groups):
            memories: list[dict[str, Tensor]] = [{} for _ in group]
            pairs = zip(group, memories, strict=True)
            closures = [self._closure(batch, epoch, index, memory) for (index, batch), memory in pairs]
            steps.append(_without_graph(self.update(closures, self.stepper, Moment(epoch, step))))
            for (_, batch), memory in zip(group, memories, strict=True):
                self.model.remember(batch, memory)
        return steps

    def rehearse(self, most_batches: int) -> Rehearsal:
        """Times the first batches, after a warm-up, and each kind of validation.

        Of more than `REHEARSED_USERS` users a full validation is reckoned from a sample.

        Moves the weights: a trainer that rehearsed is not to be trained on.
        """
        self._start_epoch(1)
        groups = self._groups(1)[: -(-most_batches // self.update.batches_per_step)]
        with matrix_products(self.config.train.precision):
            self._run_steps(groups[:2], 1)
            before, start = self.stepper.gradient_evaluations, time.perf_counter()
            self._run_steps(groups, 1)
        trained = time.perf_counter() - start
        validation = early = self._rehearse_validation()
        if self._early is not None:
            start = time.perf_counter()
            self._estimate(*self._early)
            early = time.perf_counter() - start
        return Rehearsal(trained / (self.stepper.gradient_evaluations - before), validation, early)

    def _rehearse_validation(self) -> float:
        """Seconds of a full validation, in which every user takes the same once the first is ranked."""
        users = len(self.evaluator.users)

        def seconds(evaluator: RankingEvaluator) -> float:
            start = time.perf_counter()
            self.evaluate(evaluator)
            return time.perf_counter() - start

        if users <= REHEARSED_USERS:
            return seconds(self.evaluator)
        few, many = (
            seconds(self.evaluator.of_some(number, numpy_stream(self.config.seed, "rehearsal")))
            for number in (REHEARSED_USERS // 8, REHEARSED_USERS)
        )
        return many + max(0.0, many - few) / (REHEARSED_USERS - REHEARSED_USERS // 8) * (users - REHEARSED_USERS)

    def _batches(self, epoch: int, index: int) -> list[Batch]:
        """The shuffled batches of one of an epoch's passes over the data; every update has the first in common."""
        seed, place = self.config.seed, (epoch, index) if index else (epoch,)
        drawn = self.sampler.epoch(
            numpy_stream(seed, "batches", *place),
            numpy_stream(seed, "negatives", *place),
            1 if self.model.uses_negatives else 0,
        )
        columns = [torch.from_numpy(column).to(self.device) for column in drawn]
        size = self.config.train.batch_size
        return [Batch(*parts) for parts in zip(*(torch.split(column, size) for column in columns), strict=True)]

    def _closure(self, batch: Batch, epoch: int, index: int, memory: dict[str, Tensor]) -> Closure:
        """The batch's loss; what its first pass leaves to the model is put into `memory`."""
        draw, passes = 0, 0

        def closure(*, fresh: bool = False) -> Losses:
            nonlocal draw, passes
            draw, passes = draw + fresh, passes + 1
            devices = [self.device] if self.device.type == "cuda" else []
            with torch.random.fork_rng(devices), _frozen_statistics(self._normalisations if passes > 1 else ()):
                torch.manual_seed(stream_seed(self.config.seed, "noise", epoch, index, draw if fresh else 0))
                losses: Losses = self.objective(self.model, batch)
            if passes == 1:
                memory.update(losses.memory)
            return losses

        return closure

    def _mean_losses(self, epoch: int, steps: Sequence[Losses]) -> dict[str, float]:
        totals = torch.stack([step.total for step in steps]).double().cpu()
        finite = torch.isfinite(totals)
        if not finite.all():
            step = int((~finite).nonzero()[0])
            raise Diverged(epoch, step + 1, float(totals[step]))
        means = {"loss": float(totals.mean())}
        for name in steps[0].parts:
            means[f"loss/{name}"] = float(torch.stack([step.parts[name] for step in steps]).double().mean())
        if self.progress.first_loss is None:
            self.progress.first_loss = float(totals[0])
        if abs(means["loss"]) > EXPLOSION * max(1.0, abs(self.progress.first_loss)):
            raise Diverged(epoch, 0, means["loss"])
        return means

    def _validate(self) -> dict[str, float]:
        start, early, goal = time.perf_counter(), self._early, self.config.train.metric
        if early is not None and self.progress.epoch <= early[0].epochs:
            estimates = self._estimate(*early)
            self.progress.score = estimates[goal]
            metrics = {estimate_of(name): value for name, value in estimates.items()}
        else:
            metrics = self.evaluate(self.evaluator)
            if self.progress.record_score(metrics[goal], self.config.train.mode):
                self._keep_best()
        self.progress.forward_passes += 1
        self.progress.evaluation_seconds += time.perf_counter() - start
        return metrics

    def _keep_best(self) -> None:
        """Makes the present weights the best ones, in the memory of those before: a second copy never exists."""
        weights = self.model.state_dict()
        for name, value in self.best_weights.items():
            value.copy_(weights[name])
        self.best_weights = self.best_weights or {name: value.clone() for name, value in weights.items()}

    def _estimate(self, early: EarlyValidation, evaluator: RankingEvaluator) -> dict[str, float]:
        return self.evaluate(evaluator, rounded=early.precision == "bf16")

    def evaluate(self, evaluator: RankingEvaluator, *, rounded: bool = False) -> dict[str, float]:
        """Mean ranking metrics at the current weights, in evaluation mode; changes nothing and draws nothing.

        Args:
            rounded: whether the factors of the scores are rounded to bfloat16.

        Raises:
            Diverged: a representation is not finite.
        """
        self.model.eval()
        with torch.no_grad():
            hidden = self._finite(self.model.extract(self.model.fuse()))
            with matrix_products("bf16" if rounded else "float32"):
                return evaluator(self.model.scorer(hidden), self.device)

    def evaluate_best(self, judged: Interactions) -> dict[str, float]:
        """Mean ranking metrics of the best validation epoch's weights on other interactions; the weights stay."""
        if not self.best_weights:
            raise ModelError("a trial must have been validated before its best weights can be judged")
        evaluator = RankingEvaluator(self.data.train, judged, self.data.num_items)
        current = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.best_weights)
        try:
            return self.evaluate(evaluator)
        finally:
            self.model.load_state_dict(current)

    def _finite(self, hidden: Hidden) -> Hidden:
        for part in (hidden.users, hidden.items):
            if not bool(torch.isfinite(part).all()):
                raise Diverged(self.progress.epoch, 0, math.nan)
        return hidden

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(tensors, numbers): all that the epochs to come depend on; tensors for torch.save, numbers for JSON.

        Random streams need no state: they are named by epoch. Where the present weights are the best ones, they are
        there under both names and torch.save writes them once.
        """
        weights, is_best = self.model.state_dict(), self.progress.best_epoch == self.progress.epoch
        tensors = {
            "model": weights,
            "objective": self.objective.state_dict(),
            "optimizer": self.stepper.optimizer.state_dict(),
            "update": self.update.state_dict(),
            "best_weights": weights if self.best_weights and is_best else self.best_weights,
        }
        return tensors, self.progress.as_dict()

    def restore(self, tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
        """Goes back to a state; every later epoch is bit for bit what it would have been."""
        self.model.load_state_dict(tensors["model"])
        self.objective.load_state_dict(tensors["objective"])
        self.stepper.optimizer.load_state_dict(tensors["optimizer"])
        self.update.load_state_dict(tensors["update"])
        best = tensors["best_weights"].items()
        self.best_weights = {name: value.to(self.device, copy=True) for name, value in best}
        self.progress = Progress.from_dict(numbers)
        self.stepper.gradient_evaluations = self.progress.gradient_evaluations
        self.stepper.optimizer_steps = self.progress.optimizer_steps


def _without_graph(losses: Losses) -> Losses:
    """The numbers alone. What hand-written passes keep for a gradient would else live through the next step, too."""
    return Losses(losses.total.detach(), {name: part.detach() for name, part in losses.parts.items()})


@contextmanager
def _frozen_statistics(normalisations: Sequence[_BatchNorm]) -> Iterator[None]:
    """Keeps the running statistics of batch normalisations, which a batch's further passes must not count into."""
    tracking = [part.track_running_stats for part in normalisations]
    for part in normalisations:
        part.track_running_stats = False
    try:
        yield
    finally:
        for part, tracked in zip(normalisations, tracking, strict=True):
            part.track_running_stats = tracked
