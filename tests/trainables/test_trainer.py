"""The training loop: when it validates, how it ends, and which numbers it may depend on."""

import itertools
import math
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables import checkpoints
from trainables import trainer as trainer_module
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle, Interactions
from trainables.errors import Diverged, ModelError, TrainableError
from trainables.trainer import EXPLOSION, Trainer
from trainables.types import Batch, Closure, Losses, Moment
from trainables.updates import UPDATES
from trainables.updates.base import Stepper, Update

Make = Callable[..., DataBundle]


def trainer(data: DataBundle, **flat: Any) -> Trainer:
    """A small trial; keyword `model__name` stands for the key "model.name"."""
    small = {"model.name": "vbpr", "model.embedding_size": 4, "train.batch_size": 8, "train.max_epochs": 5, "seed": 7}
    return Trainer(TrialConfig.from_flat(small | {key.replace("__", "."): value for key, value in flat.items()}), data)


def train(data: DataBundle, **flat: Any) -> list[tuple[Any, Any]]:
    """Losses and validations of three epochs."""
    trial = trainer(data, **flat)
    return [(report.losses, report.validation) for report in (trial.run_epoch() for _ in range(3))]


def batches_of(trial: Trainer) -> list[Batch]:
    """The batches of the next epoch in the order in which the update first sees them, each once."""
    seen: list[Batch] = []
    hook = trial.objective.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    trial.run_epoch()
    hook.remove()
    return list({id(batch): batch for batch in seen}.values())


def same(left: Batch, right: Batch) -> bool:
    return all(torch.equal(getattr(left, name), getattr(right, name)) for name in ("users", "positives", "negatives"))


@pytest.mark.parametrize(("every", "validated"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (3, [3, 5]), (9, [5])])
def test_validation_is_due_every_so_many_epochs_and_after_the_last(
    every: int, validated: list[int], toy: DataBundle
) -> None:
    trial = trainer(toy, train__validate_every=every)
    reports = [trial.run_epoch() for _ in range(5)]
    assert [report.epoch for report in reports if report.validation is not None] == validated
    assert [report.done for report in reports] == [False] * 4 + [True]
    assert trial.progress.forward_passes == len(validated)


def test_an_epoch_without_a_validation_keeps_the_last_score(toy: DataBundle) -> None:
    trial = trainer(toy, train__validate_every=2)
    scores = [trial.run_epoch().progress["score"] for _ in range(3)]
    assert scores[0] is None and scores[1] == scores[2] is not None


@pytest.mark.parametrize("metric", ["recall@20", "ndcg@5"])
def test_the_score_is_the_goal_metric_and_the_best_one_is_kept(metric: str, toy: DataBundle) -> None:
    trial = trainer(toy, train__metric=metric, train__patience=9)
    reports = [trial.run_epoch() for _ in range(5)]
    scores = [report.validation[metric] for report in reports if report.validation is not None]
    assert [report.progress["score"] for report in reports] == scores
    assert trial.progress.best_score == max(scores) and trial.progress.best_epoch == scores.index(max(scores)) + 1


def test_training_ends_when_the_patience_has_run_out(toy: DataBundle) -> None:
    # At this rate no weight moves, so that no validation after the first is a gain.
    trial = trainer(toy, optimizer__name="sgd", optimizer__learning_rate=1e-30, train__patience=2)
    assert [trial.run_epoch().done for _ in range(4)] == [False, False, False, True]


def test_the_loss_is_the_mean_over_the_steps(toy: DataBundle) -> None:
    trial = trainer(toy)
    totals: list[float] = []
    hook = trial.objective.register_forward_hook(lambda module, inputs, losses: totals.append(losses.total.item()))
    losses = trial.run_epoch().losses
    hook.remove()
    assert len(totals) == 5 and losses["loss"] == pytest.approx(sum(totals) / 5, rel=1e-12)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(toy: DataBundle) -> None:
    assert train(toy) == train(toy)
    assert all(left[0] != right[0] for left, right in zip(train(toy), train(toy, seed=8), strict=True))


def test_two_trials_in_turns_in_one_process_do_not_disturb_each_other(toy: DataBundle) -> None:
    alone = [trainer(toy, model__name="bm3", seed=seed).run_epoch().losses for seed in (1, 2)]
    first, second = (trainer(toy, model__name="bm3", seed=seed) for seed in (1, 2))
    torch.rand(5)
    turns = [first.run_epoch().losses, second.run_epoch().losses]
    assert turns == alone


@pytest.mark.parametrize("update", [name for name in UPDATES if name != "descent"])
def test_all_updates_see_the_same_batches_and_start_from_the_same_weights(update: str, toy: DataBundle) -> None:
    plain, other = trainer(toy), trainer(toy, update__name=update)
    weights = zip(plain.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(left, right) for left, right in weights)
    for _ in range(2):
        expected, seen = batches_of(plain), batches_of(other)
        assert len(expected) == len(seen) == 5 and all(map(same, expected, seen))


@pytest.mark.parametrize("update", ["sam_plus", "bsam_plus"])
def test_independent_pairs_take_their_second_batches_from_another_pass(update: str, toy: DataBundle) -> None:
    plain = batches_of(trainer(toy))
    trial = trainer(toy, update__name=update, update__pairing="independent")
    mixed, count = batches_of(trial), len(plain)
    assert len(mixed) == 2 * count
    assert all(same(first, alone) for first, alone in zip(mixed[::2], plain, strict=True))
    for batches in (mixed[::2], mixed[1::2]):
        pairs = [(int(u), int(i)) for batch in batches for u, i in zip(batch.users, batch.positives, strict=True)]
        assert sorted(pairs) == sorted(zip(toy.train.users.tolist(), toy.train.items.tolist(), strict=True))
    assert not any(same(first, second) for first, second in zip(mixed[::2], mixed[1::2], strict=True))
    assert trial.progress.samples == 2 * len(toy.train)
    assert trial.progress.optimizer_steps == count and trial.progress.gradient_evaluations == 3 * count


def test_every_batch_of_an_epoch_draws_its_own_noise(toy: DataBundle) -> None:
    """Also the batches of a second pass, which have numbers of their own."""
    trial, seen = trainer(toy, update__name="sam_plus", update__pairing="independent"), []
    trial.objective.register_forward_pre_hook(lambda module, inputs: seen.append(float(torch.rand(1))))
    trial.run_epoch()
    assert len(set(seen)) == 2 * trial.batches_per_epoch and len(seen) == 3 * trial.batches_per_epoch


def test_the_learning_rate_follows_its_schedule_also_after_a_restart(toy: DataBundle) -> None:
    schedule = {"optimizer__decay": 0.25, "optimizer__decay_epochs": 2, "optimizer__learning_rate": 0.8}
    trial, found = trainer(toy, **schedule), []
    for _ in range(3):
        trial.run_epoch()
        found.append(trial.stepper.learning_rate)
    assert found == pytest.approx([0.8, 0.4, 0.2])
    other = trainer(toy, **schedule)
    other.restore(*trial.state())
    other.run_epoch()
    assert other.stepper.learning_rate == pytest.approx(0.1)


def test_a_clipped_trial_moves_less(toy: DataBundle) -> None:
    numbers = {"optimizer__name": "sgd", "optimizer__learning_rate": 1.0}
    moved = []
    for clip in (0.0, 1e-3):
        trial = trainer(toy, optimizer__clip_norm=clip, **numbers)
        before = [param.detach().clone() for param in trial.stepper.params]
        trial.run_epoch()
        moved.append(
            sum(float((a - b).detach().abs().sum()) for a, b in zip(trial.stepper.params, before, strict=True))
        )
    assert 0 < moved[1] < moved[0]


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad", "sgd"])
def test_every_optimizer_learns_and_resumes(name: str, toy: DataBundle, tmp_path: Path) -> None:
    first, second = (trainer(toy, optimizer__name=name, optimizer__learning_rate=0.05) for _ in range(2))
    losses = [first.run_epoch().losses["loss"] for _ in range(2)]
    checkpoints.save(tmp_path / "trial", *first.state())
    second.restore(*checkpoints.load(tmp_path / "trial", torch.device("cpu")))
    assert first.run_epoch().losses == second.run_epoch().losses and losses[1] < losses[0]


def test_what_the_update_observed_is_reported_beside_the_losses(toy: DataBundle) -> None:
    losses = trainer(toy, update__name="bsam").run_epoch().losses
    assert {"update/cosine", "update/coefficient", "update/rise", "update/inactive", "update/unperturbed"} <= set(
        losses
    )
    assert not any(name.startswith("update/") for name in trainer(toy).run_epoch().losses)


def test_a_trial_starts_from_the_best_weights_of_another(toy: DataBundle, tmp_path: Path) -> None:
    first = trainer(toy)
    for _ in range(3):
        first.run_epoch()
    checkpoints.save(tmp_path / "trial", *first.state())
    second = trainer(toy, train__init_from=str(tmp_path / "trial"), update__name="sam")
    assert all(torch.equal(value, first.best_weights[name]) for name, value in second.model.state_dict().items())
    assert second.progress.epoch == 0
    with pytest.raises(ModelError, match=r"train.init_from must name a checkpoint of a vbpr of the same sizes"):
        trainer(toy, train__init_from=str(tmp_path / "trial"), model__embedding_size=5)
    with pytest.raises(TrainableError, match="must hold"):
        trainer(toy, train__init_from=str(tmp_path / "nothing"))


@pytest.mark.parametrize("through_a_file", [True, False])
@pytest.mark.parametrize("epochs", [1, 5])
def test_best_weights_come_back_whether_they_are_the_present_ones_or_not_and_stay(
    epochs: int, through_a_file: bool, toy: DataBundle, tmp_path: Path
) -> None:
    first, second = (trainer(toy, optimizer__learning_rate=3.0, train__max_epochs=9) for _ in range(2))
    for _ in range(epochs):
        first.run_epoch()
    assert (first.progress.best_epoch == epochs) == (epochs == 1)
    state = first.state()
    if through_a_file:
        checkpoints.save(tmp_path / "trial", *state)
        state = checkpoints.load(tmp_path / "trial", torch.device("cpu"))
    second.restore(*state)
    best = {name: value.clone() for name, value in first.best_weights.items()}
    # Trained on without a validation, so that only an alias could change them.
    for trial in (first, second):
        trial._train_epoch(epochs + 1)
        assert any(not torch.equal(value, best[name]) for name, value in trial.model.state_dict().items())
        assert all(torch.equal(value, best[name]) for name, value in trial.best_weights.items())


def test_weights_that_are_the_best_ones_are_written_once(toy: DataBundle, tmp_path: Path) -> None:
    trial, sizes = trainer(toy, model__embedding_size=256, optimizer__name="sgd"), []
    trial.run_epoch()
    for best_epoch in (1, 0):
        trial.progress.best_epoch = best_epoch
        checkpoints.save(tmp_path / "trial", *trial.state())
        sizes.append((tmp_path / "trial" / checkpoints.TENSORS).stat().st_size)
    weights = sum(value.nbytes for value in trial.model.state_dict().values())
    assert sizes[1] - sizes[0] > 0.9 * weights


def test_running_statistics_count_a_batch_once(toy: DataBundle) -> None:
    """None of the models has a batch normalisation; one that had it must not see SAM's second pass."""
    counts = []
    for update in ("descent", "sam", "bsam_plus", "mirror_gradient"):
        trial = trainer(toy, update__name=update)
        norm = torch.nn.BatchNorm1d(4)
        trial.model.add_module("norm", norm)
        trial._normalisations = [norm]
        fuse = trial.model.fuse
        trial.model.fuse = lambda batch=None, fuse=fuse, norm=norm: {k: norm(v) for k, v in fuse(batch).items()}  # type: ignore[method-assign]
        trial.run_epoch()
        counts.append(int(norm.num_batches_tracked))
        assert norm.track_running_stats
    assert counts == [trial.batches_per_epoch] * 4


def test_an_epoch_trains_every_interaction_once_with_negatives_the_user_has_not_met(toy: DataBundle) -> None:
    trial = trainer(toy)
    known = set(zip(toy.train.users.tolist(), toy.train.items.tolist(), strict=True))
    epochs = [batches_of(trial) for _ in range(2)]
    for batches in epochs:
        assert [len(batch.users) for batch in batches] == [8, 8, 8, 8, 4]
        users, positives = (torch.cat([getattr(b, name) for b in batches]).tolist() for name in ("users", "positives"))
        assert sorted(zip(users, positives, strict=True)) == sorted(known)
        negatives = torch.cat([batch.negatives for batch in batches])[:, 0].tolist()
        assert known.isdisjoint(zip(users, negatives, strict=True))
    assert not all(itertools.starmap(same, zip(*epochs, strict=True)))


class Listening(Update):
    """Descends like `descent`, and calls each closure twice and then twice afresh before it does."""

    def __init__(self) -> None:
        self.calls: list[list[float]] = []

    def __call__(self, closures: Sequence[Closure], stepper: Stepper, now: Moment) -> Losses:
        (closure,) = closures
        draws = [closure(), closure(), closure(fresh=True), closure(), closure(fresh=True)]
        self.calls.append([losses.total.item() for losses in draws])
        losses = closure()
        stepper.gradients(losses.total)
        stepper.step()
        return losses

    def gradient_evaluations(self, batches: int) -> int:
        return batches


def test_a_closure_repeats_its_draws_unless_it_is_asked_for_fresh_ones(toy: DataBundle) -> None:
    trial = trainer(toy, model__name="bm3")
    trial.update = Listening()
    trial.run_epoch()
    assert len(trial.update.calls) == 5
    for first, again, fresh, back, fresher in trial.update.calls:
        assert first == again == back
        assert len({first, fresh, fresher}) == 3


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("objective", ["plain", "dvib_c"])
def test_a_batch_is_remembered_once_as_its_first_pass_saw_it(update: str, objective: str, toy: DataBundle) -> None:
    names = {"model__name": "selfcf", "model__variant": "he", "objective__name": objective, "update__name": update}
    trial = trainer(toy, train__batch_size=13, **names)
    expected = trial.model.get_buffer("user_history").clone()
    first: list[tuple[Batch, torch.Tensor]] = []

    def listen(module: torch.nn.Module, inputs: tuple[Any, Batch], losses: Losses) -> None:
        if all(batch is not inputs[1] for batch, _ in first):
            first.append((inputs[1], losses.memory["users"].clone()))

    trial.objective.register_forward_hook(listen)
    trial.run_epoch()
    for batch, users in first:
        expected[batch.users] = users
    assert len(first) == trial.batches_per_epoch == 3
    assert torch.equal(trial.model.get_buffer("user_history"), expected)


def test_listening_changes_no_number_of_the_trial(toy: DataBundle) -> None:
    plain, listening = trainer(toy, model__name="bm3"), trainer(toy, model__name="bm3")
    listening.update = Listening()
    assert plain.run_epoch().losses == listening.run_epoch().losses


@pytest.mark.parametrize("update", ["descent", "sam", "bsam_plus", "mirror_gradient"])
def test_a_loss_that_is_not_finite_ends_the_trial_with_epoch_and_step(update: str, toy: DataBundle) -> None:
    trial = trainer(toy, update__name=update, optimizer__name="sgd", optimizer__learning_rate=1e30)
    with pytest.raises(Diverged, match=r"epoch 1, step 2$") as caught:
        trial.run_epoch()
    assert (caught.value.epoch, caught.value.step) == (1, 2) and not math.isfinite(caught.value.loss)
    assert trial.progress.epoch == 0


def test_an_exploding_loss_ends_the_trial_while_it_is_still_finite(toy: DataBundle) -> None:
    trial = trainer(toy, model__name="lightgcn", optimizer__name="sgd", optimizer__learning_rate=100.0)
    losses: list[float] = []
    with pytest.raises(Diverged) as caught:
        while True:
            losses.append(trial.run_epoch().losses["loss"])
    assert trial.progress.first_loss is not None
    limit = EXPLOSION * max(1.0, trial.progress.first_loss)
    assert all(loss <= limit for loss in losses) and limit < caught.value.loss < math.inf
    assert (caught.value.epoch, caught.value.step) == (len(losses) + 1, 0)


def test_what_a_diverged_epoch_cost_is_counted(toy: DataBundle) -> None:
    trial = trainer(toy, optimizer__name="sgd", optimizer__learning_rate=1e30)
    with pytest.raises(Diverged):
        trial.run_epoch()
    progress = trial.progress
    assert (progress.gradient_evaluations, progress.optimizer_steps, progress.samples) == (5, 5, len(toy.train))
    assert progress.train_seconds > 0


def test_the_best_weights_are_judged_and_the_current_ones_come_back(toy: DataBundle) -> None:
    trial = trainer(toy, train__metric="ndcg@5", optimizer__learning_rate=0.3, train__max_epochs=30, train__patience=30)
    reports = [trial.run_epoch() for _ in range(30)]
    validations = [report.validation for report in reports]
    assert trial.progress.best_epoch < 30 and validations[trial.progress.best_epoch - 1] != validations[-1]
    before = {name: value.clone() for name, value in trial.model.state_dict().items()}
    assert trial.evaluate_best(toy.valid) == validations[trial.progress.best_epoch - 1]
    assert all(torch.equal(value, before[name]) for name, value in trial.model.state_dict().items())
    assert trial.evaluate(trial.evaluator) == validations[-1]


def test_the_current_weights_come_back_even_when_the_judging_fails(toy: DataBundle) -> None:
    trial = trainer(toy)
    trial.run_epoch()
    trial.best_weights = {name: torch.full_like(value, math.nan) for name, value in trial.best_weights.items()}
    before = trial.evaluate(trial.evaluator)
    with pytest.raises(Diverged):
        trial.evaluate_best(toy.valid)
    assert trial.evaluate(trial.evaluator) == before


def test_a_validation_split_of_strangers_is_refused(toy: DataBundle) -> None:
    stranger = Interactions(np.array([toy.num_users], dtype=np.int64), np.array([0], dtype=np.int64))
    parts = {"num_users": toy.num_users + 1, "num_items": toy.num_items, "features": dict(toy.features)}
    data = DataBundle(name="toy", digest="", file_digests={}, train=toy.train, valid=stranger, **parts)
    with pytest.raises(ModelError, match="no user of the validation split has training interactions"):
        trainer(data)


@pytest.mark.parametrize(("size", "batches"), [(1, 36), (8, 5), (9, 4), (36, 1), (1000, 1)])
def test_batches_per_epoch_count_the_short_last_one(size: int, batches: int, toy: DataBundle) -> None:
    trial = trainer(toy, train__batch_size=size)
    assert trial.batches_per_epoch == batches == len(batches_of(trial))


def test_a_rehearsal_measures_all_times(make_toy: Make) -> None:
    seconds, validation, early = trainer(make_toy(), update__name="sam").rehearse(3)
    assert seconds > 0 and validation > 0 and early == validation


def test_a_rehearsal_reckons_the_validation_of_many_users_from_a_sample(
    make_toy: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trainer(make_toy())
    users = len(trial.evaluator.users)
    monkeypatch.setattr(trainer_module, "REHEARSED_USERS", 8)
    assert users > 8
    clock = iter([0.0, 1.0, *[seconds for part in ((0.0, 3.0), (0.0, 10.0)) for seconds in part]])
    monkeypatch.setattr(trainer_module.time, "perf_counter", lambda: next(clock))
    # 1 of 8 users took 3 s, 8 of them 10 s: a second a user.
    assert trial.rehearse(1).validation_s == pytest.approx(10 + (users - 8))


def test_the_best_weights_are_kept_in_one_memory_and_apart_from_the_present_ones(toy: DataBundle) -> None:
    trial = trainer(toy)
    kept: dict[str, torch.Tensor] = {}
    for _ in range(2):
        trial.run_epoch()
        trial._keep_best()
        weights = trial.model.state_dict()
        assert trial.best_weights.keys() == weights.keys()
        for name, value in trial.best_weights.items():
            assert value is kept.setdefault(name, value)
            assert torch.equal(value, weights[name]) and value.data_ptr() != weights[name].data_ptr()


def test_what_a_step_kept_for_its_gradient_is_gone_before_the_next_one(toy: DataBundle) -> None:
    trial = trainer(toy)
    totals: list[weakref.ref[torch.Tensor]] = []

    def look(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        assert not [each for each in totals if each() is not None]

    trial.objective.register_forward_pre_hook(look)
    trial.objective.register_forward_hook(lambda module, inputs, losses: totals.append(weakref.ref(losses.total)))
    trial.run_epoch()
    assert len(totals) == trial.batches_per_epoch > 2
