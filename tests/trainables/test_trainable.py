"""The Tune adapter without a cluster: what it reports, and that moving a trial changes no bit of it."""

import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.tune.trainable import trainable as tunes

from trainables.data.bundle import DataBundle
from trainables.trainable import CHECKPOINT, RecommenderTrainable, Resources
from trainables.trainer import Trainer

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

    class Worker(RecommenderTrainable):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, bundles={"toy": toy}, resources=Resources())

    def make(**flat: Any) -> RecommenderTrainable:
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
    assert isinstance(worker._trainer, Trainer)
    tensors, _ = worker._trainer.state()
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
    assert worker._trainer is not None
    del worker._trainer.model.predictor.weight
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
    assert worker._trainer is None


def test_a_trial_uses_one_thread_per_cpu(toy: DataBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunes, "DEFAULT_STORAGE_PATH", str(tmp_path / "logs"))
    for cpu, threads in ((2, 2), (1, 1), (0, 1)):

        class Worker(RecommenderTrainable):
            def setup(self, config: dict[str, Any], cpu: int = cpu) -> None:  # type: ignore[override]
                super().setup(config, bundles={"toy": toy}, resources=Resources(cpu=cpu))

        Worker({"trial": dict(FLAT)}).stop()
        assert torch.get_num_threads() == threads
