"""The Tune adapter without a cluster: what it reports, and that moving a trial changes no bit of it."""

import math
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.tune.trainable import trainable as tunes

from trainables.checkpoint_places import CheckpointPlan
from trainables.checkpoints import TENSORS
from trainables.data.bundle import DataBundle
from trainables.shares import Resources
from trainables.trainable import RecommenderTrainable
from trainables.trainer import Trainer
from trainables.trial_runner import CHECKPOINT, MEMORABLE

CLOCKED = {
    *("train_seconds", "evaluation_seconds", "setup_seconds", "peak_memory_bytes"),
    *("time_this_iter_s", "time_total_s", "time_since_restore", "iterations_since_restore", "timestamp", "date"),
}
"""Fields of a result that depend on the clock or the process."""

FLAT = {
    "data.name": "toy",
    "model.name": "bm3",
    "model.embedding_size": 4,
    "update.name": "bsam_plus",
    "train.batch_size": 8,
    "train.max_epochs": 6,
    "seed": 7,
}
DIVERGING = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e30}

Build = Callable[..., RecommenderTrainable]


@pytest.fixture
def build(toy: DataBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Builds the trainable as a worker would, with its parameters in its hands; stops it afterwards."""
    # Outside a cluster Tune makes a folder for logs, by default below the home folder.
    monkeypatch.setattr(tunes, "DEFAULT_STORAGE_PATH", str(tmp_path / "logs"))
    built = []

    def make(plan: CheckpointPlan | None = None, **flat: Any) -> RecommenderTrainable:
        class Worker(RecommenderTrainable):
            def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
                super().setup(config, bundles={"toy": toy}, resources=Resources(), plan=plan)

        built.append(Worker({"name": "n", "cell": "c", "trial": changed(flat)}))
        return built[-1]

    yield make
    for worker in built:
        worker.stop()


def changed(flat: dict[str, Any]) -> dict[str, Any]:
    return FLAT | {key.replace("__", "."): value for key, value in flat.items()}


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what depends on the clock."""
    return {key: value for key, value in result.items() if key not in CLOCKED}


def weights(worker: RecommenderTrainable) -> dict[str, torch.Tensor]:
    assert isinstance(worker.runner.trainer, Trainer)
    tensors, _ = worker.runner.trainer.state()
    return {name: value.clone() for part in ("model", "best_weights") for name, value in tensors[part].items()}


def test_an_epoch_reports_its_losses_metrics_and_cost(build: Build, toy: DataBundle) -> None:
    result = build(train__validate_every=2).train()
    assert (result["status"], result["done"], result["error"], result["validated"]) == ("running", False, None, False)
    assert result["validation"] == {} and result["score"] is None and math.isfinite(result["losses"]["loss"])
    assert (result["epoch"], result["gradient_evaluations"], result["optimizer_steps"]) == (1, 8, 3)
    assert (result["samples"], result["device"]) == (len(toy.train), "cpu")
    assert min(result[name] for name in ("train_seconds", "setup_seconds", "peak_memory_bytes")) > 0
    assert pickle.loads(pickle.dumps(result)) == result


def test_a_validated_epoch_has_the_goal_metric_as_its_score(build: Build) -> None:
    result = build(train__metric="ndcg@10").train()
    assert result["validated"] and result["score"] == result["best_score"] == result["validation"]["ndcg@10"]


def test_the_last_epoch_finishes_the_trial(build: Build) -> None:
    worker = build(train__max_epochs=2)
    results = [worker.train() for _ in range(2)]
    assert [(result["status"], result["done"]) for result in results] == [("running", False), ("finished", True)]


@pytest.mark.parametrize(
    ("flat", "error"),
    [
        ({"update__roh": 1}, "ConfigError: update.roh is unknown; did you mean 'rho'?"),
        ({"model__name": "freedom", "model__knn_k": 99}, "ModelError: an item graph must have"),
        ({"data__name": "other"}, "KeyError: 'other'"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_a_failed_result_not_an_exception(
    flat: dict[str, Any], error: str, build: Build, tmp_path: Path
) -> None:
    worker = build(**flat)
    result = worker.train()
    assert (result["status"], result["done"], result["validated"], result["epoch"]) == ("failed", True, False, 0)
    assert result["error"].startswith(error) and result["score"] is None
    worker.save_checkpoint(str(tmp_path))
    assert not (tmp_path / CHECKPOINT).exists()


def test_an_exception_in_an_epoch_is_a_failed_result_with_its_class_and_place(build: Build) -> None:
    worker = build()
    worker.train()
    assert worker.runner.trainer is not None
    del worker.runner.trainer.model.predictor.weight
    result = worker.train()
    assert (result["status"], result["done"], result["epoch"]) == ("failed", True, 1)
    assert result["error"].startswith("AttributeError: ") and 'File "' in result["error"]


def test_a_diverged_trial_is_a_result_with_the_scores_and_the_cost_so_far(build: Build) -> None:
    result = build(**DIVERGING).train()
    assert (result["status"], result["done"], result["validated"], result["epoch"]) == ("diverged", True, False, 0)
    assert "the loss must stay finite and bounded" in result["error"] and "epoch 1, step 2" in result["error"]
    assert result["gradient_evaluations"] == 8 and result["train_seconds"] > 0


def test_a_worker_goes_on_with_the_next_trial_after_any_end(build: Build) -> None:
    expected = build().train()
    for flat in (DIVERGING, {"model.knn_k": 3}, {"train.max_epochs": 1}):
        worker = build(**flat)
        worker.train()
        assert worker.reset({"name": "n", "cell": "c", "trial": dict(FLAT)})
        result = worker.train()
        assert (result["losses"], result["validation"]) == (expected["losses"], expected["validation"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its peak memory")
def test_a_trials_peak_memory_is_not_that_of_the_one_before_in_its_worker(build: Build) -> None:
    worker = build()
    large = np.ones(50_000_000)
    before = worker.step()["peak_memory_bytes"]
    assert before > large.nbytes
    del large
    worker.reset({"name": "m", "cell": "c", "trial": dict(FLAT)})
    assert before - worker.step()["peak_memory_bytes"] > 300_000_000


def test_a_reused_worker_that_restores_another_ones_checkpoint_is_bit_identical(build: Build, tmp_path: Path) -> None:
    straight = build()
    expected = [numbers(straight.train()) for _ in range(6)]
    first = build()
    for _ in range(3):
        first.train()
    saved = first.save(str(tmp_path / "checkpoint"))
    second = build(model__name="vbpr", seed=1)
    second.train()
    second.reset({"name": "n", "cell": "c", "trial": dict(FLAT)})
    second.restore(saved)
    resumed = [numbers(second.train()) for _ in range(3)]
    assert resumed == expected[3:]
    left, right = weights(straight), weights(second)
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_saving_changes_nothing_of_a_trial(build: Build, tmp_path: Path) -> None:
    saving, plain = build(), build()
    for epoch in range(3):
        saving.save(str(tmp_path / str(epoch)))
        assert numbers(saving.train()) == numbers(plain.train())


def test_a_trial_can_go_back_to_its_own_checkpoint(build: Build, tmp_path: Path) -> None:
    worker = build()
    worker.train()
    saved = worker.save(str(tmp_path / "checkpoint"))
    once = [numbers(worker.train()) for _ in range(2)]
    worker.restore(saved)
    assert [numbers(worker.train()) for _ in range(2)] == once


def test_cleaning_up_lets_go_of_the_trial(build: Build) -> None:
    worker = build()
    worker.train()
    worker.cleanup()
    assert worker.runner.trainer is None


def test_a_trial_uses_one_thread_per_cpu(toy: DataBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunes, "DEFAULT_STORAGE_PATH", str(tmp_path / "logs"))
    for cpu, threads in ((2, 2), (1, 1), (0, 1)):

        class Worker(RecommenderTrainable):
            def setup(self, config: dict[str, Any], cpu: int = cpu) -> None:  # type: ignore[override]
                super().setup(config, bundles={"toy": toy}, resources=Resources(cpu=cpu))

        Worker({"name": "n", "trial": dict(FLAT)}).stop()
        assert torch.get_num_threads() == threads


@pytest.fixture
def plan(tmp_path: Path) -> CheckpointPlan:
    return CheckpointPlan(str(tmp_path / "checkpoints"), every_epochs=2)


def memory(result: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint keeps of an epoch's result, without what depends on the clock."""
    return {name: result[name] for name in MEMORABLE}


def epochs_of(worker: RecommenderTrainable, steps: int = 1000) -> list[dict[str, Any]]:
    """Runs to the end of the trial or for so many steps."""
    results: list[dict[str, Any]] = []
    while len(results) < steps and not (results and results[-1]["done"]):
        results.append(worker.train())
    return results


def told(results: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Every epoch that was reported, the last report of each, with those that came as earlier ones."""
    return {each["epoch"]: memory(each) for result in results for each in (*result["earlier"], result)}


def saved(plan: CheckpointPlan) -> list[str]:
    return sorted(path.name for path in (Path(plan.root) / "n").glob("*"))


def damage(plan: CheckpointPlan, epoch: int) -> None:
    weights = Path(plan.root) / "n" / f"epoch_{epoch:06d}" / TENSORS
    weights.write_bytes(weights.read_bytes()[:-9])


@pytest.mark.parametrize(("update", "killed"), [("bsam_plus", epoch) for epoch in range(7)] + [("descent", 3)])
def test_a_trial_that_is_killed_after_any_epoch_ends_as_one_that_is_not(
    update: str, killed: int, build: Build, plan: CheckpointPlan
) -> None:
    straight = build(update__name=update)
    expected = {result["epoch"]: memory(result) for result in epochs_of(straight)}
    before = epochs_of(build(plan, update__name=update), killed) if killed else []
    second = build(plan, update__name=update)
    after = epochs_of(second)
    assert told(after) == expected and told(before).items() <= expected.items()
    left, right = weights(straight), weights(second)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert [result["epoch"] for result in after] == list(range(max(1, killed - killed % 2), 7))


def test_a_trial_survives_any_number_of_kills(build: Build, plan: CheckpointPlan) -> None:
    expected = {result["epoch"]: memory(result) for result in epochs_of(build())}
    results = [result for _ in range(4) for result in epochs_of(build(plan), 3)]
    assert told(results) == expected and results[-1]["done"]


def test_the_first_result_after_a_restart_is_the_checkpoints_own_and_trains_nothing(
    build: Build, plan: CheckpointPlan
) -> None:
    results = epochs_of(build(plan, train__validate_every=2), 5)
    worker = build(plan, train__validate_every=2)
    before = weights(worker)
    again = worker.train()
    assert all(torch.equal(before[name], value) for name, value in weights(worker).items())
    assert [each["epoch"] for each in again["earlier"]] == [1, 2, 3]
    assert [memory(each) for each in again["earlier"]] == [memory(result) for result in results[:3]]
    same = {"best_score", "best_epoch", "optimizer_steps", "samples", "error", "warning", "device", *MEMORABLE}
    assert {name: again[name] for name in same} == {name: results[3][name] for name in same}
    assert again["train_seconds"] == results[3]["train_seconds"]
    after = worker.train()
    assert (after["epoch"], after["earlier"]) == (5, []) and memory(after) == memory(results[4])


def test_results_of_an_undisturbed_trial_have_no_earlier_ones_and_no_warning(
    build: Build, plan: CheckpointPlan
) -> None:
    results = epochs_of(build(plan))
    assert [(result["earlier"], result["warning"]) for result in results] == [([], None)] * 6
    assert pickle.loads(pickle.dumps(results)) == results


def test_checkpoints_come_every_few_epochs_and_at_the_end(build: Build, plan: CheckpointPlan) -> None:
    seen, worker = [], build(plan, train__max_epochs=5)
    for _ in range(5):
        worker.train()
        seen.append(saved(plan))
    two, four, five = (f"epoch_{epoch:06d}" for epoch in (2, 4, 5))
    assert seen == [[], [two], [two], [two, four], [four, five]]


def test_keeping_checkpoints_changes_nothing_of_a_trial(build: Build, plan: CheckpointPlan) -> None:
    assert [numbers(result) for result in epochs_of(build(plan))] == [numbers(result) for result in epochs_of(build())]


def test_a_damaged_newest_checkpoint_costs_one_interval(build: Build, plan: CheckpointPlan) -> None:
    expected = told(epochs_of(build()))
    epochs_of(build(plan), 5)
    damage(plan, 4)
    after = epochs_of(build(plan))
    assert [result["epoch"] for result in after] == [2, 3, 4, 5, 6] and told(after) == expected


def test_without_a_checkpoint_that_can_be_read_a_trial_is_trained_anew(build: Build, plan: CheckpointPlan) -> None:
    expected = told(epochs_of(build()))
    epochs_of(build(plan), 5)
    damage(plan, 2)
    damage(plan, 4)
    after = epochs_of(build(plan), 2)
    assert [result["epoch"] for result in after] == [1, 2] and after[0]["earlier"] == []
    # Those that cannot be read do not push out the new ones.
    assert told(epochs_of(build(plan))) == expected and saved(plan)[-1] == "epoch_000006"
    assert build(plan).train()["epoch"] == 6


def test_a_trial_trained_anew_goes_on_from_its_new_checkpoint(build: Build, plan: CheckpointPlan) -> None:
    epochs_of(build(plan))
    damage(plan, 4)
    damage(plan, 6)
    epochs_of(build(plan), 3)
    assert build(plan).train()["epoch"] == 2


@pytest.mark.parametrize("flat", [{"model__name": "vbpr"}, {"model__embedding_size": 8}])
def test_a_checkpoint_of_another_trial_is_passed_over(flat: dict[str, Any], build: Build, plan: CheckpointPlan) -> None:
    expected = [numbers(result) for result in epochs_of(build())]
    epochs_of(build(plan, **flat), 2)
    assert [numbers(result) for result in epochs_of(build(plan))] == expected


def test_a_trial_that_had_ended_gives_its_last_result_again(build: Build, plan: CheckpointPlan) -> None:
    results = epochs_of(build(plan))
    again = build(plan).train()
    assert (again["done"], again["status"]) == (True, "finished") and memory(again) == memory(results[-1])
    assert told([again]) == told(results)


def test_a_worker_that_is_reused_goes_on_from_the_next_trials_checkpoint(build: Build, plan: CheckpointPlan) -> None:
    results = epochs_of(build(plan), 3)
    worker = build(plan)
    assert worker.reset({"name": "other", "cell": "c", "trial": dict(FLAT)})
    assert worker.train()["epoch"] == 1
    worker.reset({"name": "n", "cell": "c", "trial": dict(FLAT)})
    assert memory(worker.train()) == memory(results[1])


def test_a_trial_goes_on_with_a_warning_where_no_checkpoint_can_be_saved(build: Build, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    results = epochs_of(build(CheckpointPlan(str(tmp_path / "file" / "below"), every_epochs=2)))
    warnings = [result.pop("warning") for result in results]
    said = "no checkpoint could be saved: Not a directory"
    assert warnings == [None, said, None, said, None, said]
    plain = [numbers(result) for result in epochs_of(build())]
    assert [numbers(result) | {"warning": None} for result in results] == plain


@pytest.mark.parametrize("flat", [DIVERGING, {"model__knn_k": 3}])
def test_a_trial_that_failed_or_diverged_saves_no_checkpoint(
    flat: dict[str, Any], build: Build, plan: CheckpointPlan
) -> None:
    assert epochs_of(build(CheckpointPlan(plan.root, every_epochs=1), **flat))[-1]["status"] in ("failed", "diverged")
    assert saved(plan) == []


def test_a_divergence_after_a_restart_is_the_same(build: Build, plan: CheckpointPlan) -> None:
    epochs_of(build(plan), 2)
    worker = build(plan)
    worker.train()
    assert worker.runner.trainer is not None
    with torch.no_grad():
        for weight in worker.runner.trainer.model.parameters():
            weight.fill_(float("nan"))
    result = worker.train()
    assert (result["status"], result["epoch"], result["done"], result["earlier"]) == ("diverged", 2, True, [])


def test_setup_seconds_add_up_over_the_starts(build: Build, plan: CheckpointPlan) -> None:
    first = epochs_of(build(plan), 2)[-1]
    second = epochs_of(build(plan), 3)
    third = epochs_of(build(plan), 2)
    assert second[0]["setup_seconds"] == first["setup_seconds"] < second[1]["setup_seconds"]
    assert third[0]["setup_seconds"] == second[2]["setup_seconds"] < third[1]["setup_seconds"]


def test_what_ray_grants_a_trial_stands_in_its_configuration(
    toy: DataBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunes, "DEFAULT_STORAGE_PATH", str(tmp_path / "logs"))

    class Worker(RecommenderTrainable):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, bundles={"toy": toy}, resources=Resources(cpu=1))

    Worker({"name": "n", "resources": (2, 0), "trial": dict(FLAT)}).stop()
    assert torch.get_num_threads() == 2


def test_freed_memory_goes_back_once_a_trial_is_built(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    class Library:
        def malloc_trim(self, kept: int) -> None:
            calls.append(kept)

    monkeypatch.setattr("ctypes.CDLL", lambda name: Library())
    worker = build()
    assert calls == [0]
    worker.reset_config({"name": "next", "trial": dict(FLAT)})
    assert calls == [0, 0]
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # another library than glibc
    worker.reset_config({"name": "last", "trial": dict(FLAT)})
    assert worker.train()["status"] == "running"
