"""What happens to a trial's worker is no matter of the sweep's: others go on, lost work is done again, to the bit."""

from pathlib import Path

import pytest
from fault_sweeps import SLOW, Sweeps, assert_same, ok, ray_cluster, trials_of, wait_until

from search.store import Store

pytestmark = pytest.mark.slow


def test_workers_killed_in_setup_in_an_epoch_and_in_a_checkpoint(sweeps: Sweeps, whole: Path) -> None:
    faults = [
        {"name": "setup", "point": "setup", "action": "kill", "update": "bsam_plus", "times": 1},
        {"name": "epoch", "point": "epoch", "action": "kill", "update": "descent", "epoch": 7, "times": 1},
        {"name": "checkpoint", "point": "checkpoint", "action": "kill", "update": "bsam_plus", "epoch": 9, "times": 1},
    ]
    ok(sweeps.run("launch", sweeps.file(), "--store", "s", faults=faults))
    assert [sweeps.struck(fault["name"]) for fault in faults] == [1, 1, 1]
    assert_same(sweeps.folder / "s", whole)
    attempts = Store(sweeps.folder / "s").frame("trials_all")
    lost = attempts[attempts["status"] == "lost"]
    # The one that was lost in its set-up had not begun: it left no attempt.
    assert len(lost) == 2 and lost["error"].str.startswith("the worker was lost").all()


def test_a_trial_that_raises_diverges_or_hangs_fails_alone(sweeps: Sweeps, whole: Path) -> None:
    file = sweeps.file(
        axes={"update": ["descent", "bsam_plus", "sam", "mirror_gradient"]},
        search={"trials": 1},
        budget={"trial_minutes": 0.4},
    )
    faults = [
        {"name": "a", "point": "epoch", "action": "diverge", "update": "bsam_plus", "epoch": 3},
        {"name": "b", "point": "epoch", "action": "raise", "update": "sam", "epoch": 3},
        {"name": "c", "point": "epoch", "action": "hang", "update": "mirror_gradient", "epoch": 3},
    ]
    constants = {"search.supervision.HANG_GRACE_SECONDS": 1.0}
    ok(sweeps.run("launch", file, "--store", "s", faults=faults, constants=constants), 3)
    trials = Store(sweeps.folder / "s").frame("trials").set_index("update")
    assert trials["status"].to_dict() == {
        "descent": "finished",
        "bsam_plus": "diverged",
        "sam": "failed",
        "mirror_gradient": "failed",
    }
    assert (trials["epochs"].drop("descent") == 2).all()
    errors = trials["error"]
    assert errors["sam"].startswith("ArithmeticError: injected: the matrix is not positive definite")
    assert "fault_injection" in errors["sam"] or "sitecustomize" in errors["sam"]
    assert "reported nothing" in errors["mirror_gradient"] and "finite" in errors["bsam_plus"]
    undisturbed, left = trials_of(whole), trials_of(sweeps.folder / "s")
    finished = left[left["status"] == "finished"].merge(undisturbed)
    assert len(finished) == 1, (undisturbed, left)


def test_a_leaking_trial_is_reported_as_killed_for_its_memory(sweeps: Sweeps, whole: Path) -> None:
    from ray._common.utils import get_system_memory
    from ray._private.utils import get_used_memory

    file = sweeps.file(search={"trials": 1}, resources={"max_concurrent": 1})
    faults = [{"name": "leak", "point": "epoch", "action": "leak", "update": "descent", "epoch": 3}]
    # Ray itself and a worker take the first of these bytes, the leak the rest.
    threshold = (get_used_memory() + 3e9) / get_system_memory()
    assert threshold < 0.9, "this machine has too little memory to spare"
    memory = {"RAY_memory_usage_threshold": f"{threshold:.4f}", "RAY_memory_monitor_refresh_ms": "100"}
    ok(sweeps.run("launch", file, "--store", "s", faults=faults, **memory), 3)
    trials = Store(sweeps.folder / "s").frame("trials").set_index("update")
    assert trials["status"].to_dict() == {"descent": "failed", "bsam_plus": "finished"}
    assert "memory monitor" in trials["error"]["descent"]
    left = trials_of(sweeps.folder / "s")
    assert len(left[left["status"] == "finished"].merge(trials_of(whole))) == 1


def test_a_removed_node_takes_no_trial_with_it(sweeps: Sweeps, whole: Path) -> None:
    file = sweeps.file(resources={"gpu": 0.5})
    member = {"num_cpus": 2, "num_gpus": 1}
    with ray_cluster(sweeps, {"num_cpus": 0}, [member, member], SLOW) as (address, order):
        driver = sweeps.start("launch", file, "--store", "s", "--address", address)
        wait_until(lambda: not driver.running or len(sweeps.epochs()) > 6)
        assert driver.running, driver.output
        assert order("remove") > 0
        ok(driver)
    assert "(raylet)" not in driver.output
    assert_same(sweeps.folder / "s", whole)
    attempts = Store(sweeps.folder / "s").frame("trials_all")
    assert (attempts["status"] == "lost").any()


def test_a_lost_head_is_said_in_one_sentence_and_resume_goes_on_elsewhere(sweeps: Sweeps, whole: Path) -> None:
    with ray_cluster(sweeps, {"num_cpus": 2}, faults=SLOW) as (address, order):
        driver = sweeps.start("launch", sweeps.file(), "--store", "s", "--address", address)
        wait_until(lambda: not driver.running or len(sweeps.epochs()) > 6)
        assert driver.running, driver.output
        order("kill")
        assert driver.wait(150) == 5, driver.output
    assert "Traceback" not in driver.output and "recsweep resume" in driver.output
    said = [line for line in driver.err.splitlines() if line.startswith("recsweep: ")]
    assert len(said) == 1, driver.output
    ok(sweeps.run("resume", "faults", "--store", "s"))
    assert_same(sweeps.folder / "s", whole)
