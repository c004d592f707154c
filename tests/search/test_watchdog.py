"""What is found wrong in a sequence of scenes, when, how often, and what is said of its cause."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.sections import Share, WatchSection
from search.watchdog import LOST_SECONDS, Finding, Scene, Watchdog

ONE, BIG = Share(1, 0), Share(2, 1)
NODES = ((4.0, 0.0), (2.0, 0.5))


@dataclass
class Sweep:
    """Scenes two seconds apart, as the driver makes them."""

    watch: dict[str, Any] = field(default_factory=lambda: {"stall_minutes": 5})
    now: float = 1000.0
    results: int = 0

    def __post_init__(self) -> None:
        self.dog = Watchdog(WatchSection(**self.watch))

    def look(self, **seen: Any) -> list[Finding]:
        scene = {"results": self.results, "running": {}, "pending": {}, "nodes": NODES, **seen}
        return self.dog.look(Scene(now=self.now, **scene))

    def wait(self, seconds: float, *, step: float = 2.0, **seen: Any) -> list[Finding]:
        """The findings of that many seconds; the first look is at once."""
        found = self.look(**seen)
        for _ in range(int(seconds // step)):
            self.now += step
            found += self.look(**seen)
        return found


@pytest.fixture
def sweep() -> Sweep:
    return Sweep()


def test_a_sweep_that_gets_on_is_left_alone(sweep: Sweep) -> None:
    for sweep.results in range(100):
        assert sweep.wait(200, running={"a": sweep.results}, pending={"b": ONE}, free_bytes=10**12) == []


def test_a_stall_is_said_once_with_the_trial_that_hangs(sweep: Sweep) -> None:
    assert sweep.wait(298, running={"a": 6}) == []
    said = "no trial has reported anything for 5.0 min (watch.stall_minutes): a has been in epoch 7 for 5.0 min"
    assert sweep.wait(2, running={"a": 6}) == [Finding("warning", said)]
    assert sweep.wait(10_000, running={"a": 6}) == []


def test_a_stall_that_comes_back_after_a_result_is_said_again(sweep: Sweep) -> None:
    assert len(sweep.wait(1000, running={"a": 6})) == 1
    sweep.results += 1
    assert sweep.wait(298, running={"a": 7}) == []
    (finding,) = sweep.wait(2, running={"a": 7})
    assert "a has been in epoch 8 for 5.0 min" in finding.text


def test_of_several_trials_the_one_that_hangs_longest_is_named(sweep: Sweep) -> None:
    sweep.wait(100, running={"a": 0, "b": 3})
    sweep.results += 1
    (finding,) = sweep.wait(300, running={"a": 1, "b": 3})
    assert finding.text.endswith("b has been in epoch 4 for 6.7 min; 2 trials run in all")


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        ({}, "no trial runs, and none waits for a worker"),
        (
            {"pending": {"a": BIG}},
            "a waits for 2 CPU and 1 GPU, and no node has that much (4 CPU and 0 GPU or 2 CPU and 0.5 GPU)",
        ),
        (
            {"pending": {"a": ONE}, "free": (0.0, 0.5)},
            "a waits for 1 CPU and 0 GPU, and the cluster has 0 CPU and 0.5 GPU free: others use it",
        ),
        (
            {"pending": {"a": ONE}, "free": (1.0, 0.0)},
            "a waits for 1 CPU and 0 GPU, the cluster has room, and no worker process has started; "
            "`recsweep doctor` looks into it",
        ),
    ],
)
def test_a_stall_without_a_running_trial_has_another_cause(seen: dict[str, Any], cause: str, sweep: Sweep) -> None:
    (finding,) = sweep.wait(600, **seen)
    assert finding.kind == "warning" and finding.text.partition("): ")[2] == cause


def test_a_stall_is_said_even_while_the_cluster_may_be_lost(sweep: Sweep) -> None:
    sweep.wait(290, pending={"a": ONE})
    (finding,) = sweep.wait(10, pending={"a": ONE}, nodes=())
    assert finding.text.endswith("a waits for 1 CPU and 0 GPU, and no node is alive")


def test_the_trial_that_waits_longest_is_named(sweep: Sweep) -> None:
    sweep.wait(100, pending={"z": ONE})
    (finding,) = sweep.wait(300, pending={"a": ONE, "z": ONE})
    assert "): z waits" in finding.text


def test_a_trial_that_no_node_holds_is_noticed_while_others_get_on(sweep: Sweep) -> None:
    found = []
    for sweep.results in range(10):
        later = {"a": BIG} if sweep.results else {}
        found += sweep.wait(60, running={"r": sweep.results}, pending={"b": BIG, "c": ONE, **later})
    (finding,) = found
    assert finding.text.startswith("b waits for 2 CPU and 1 GPU, and no node has that much")
    assert finding.text.endswith("for 5.0 min now (watch.stall_minutes)")


def test_a_trial_that_waits_for_its_turn_is_nothing_wrong(sweep: Sweep) -> None:
    for sweep.results in range(10):
        assert sweep.wait(60, running={"a": sweep.results}, pending={"b": ONE}) == []


def test_a_node_that_comes_in_time_ends_the_waiting(sweep: Sweep) -> None:
    grown = (*NODES, (8.0, 2.0))
    for sweep.results in range(20):
        nodes = grown if sweep.results % 4 == 3 else NODES  # a spot node that goes again
        name = f"b{sweep.results // 4}"  # and starts the trial while it is there
        pending = {} if nodes == grown else {name: BIG}
        assert sweep.wait(60, running={"a": 0}, pending=pending, nodes=nodes) == []


@pytest.mark.parametrize(("nodes", "state"), [((), "has no node alive"), (None, "does not answer")])
def test_a_lost_cluster_breaks_the_sweep_off(nodes: tuple[()] | None, state: str, sweep: Sweep) -> None:
    sweep.wait(100)
    assert sweep.wait(LOST_SECONDS - 4, nodes=nodes) == []
    assert sweep.wait(LOST_SECONDS, nodes=nodes) == [Finding("broken", f"the Ray cluster {state}, for 60.0 s now")]


def test_a_cluster_that_comes_back_in_time_is_not_lost(sweep: Sweep) -> None:
    for _ in range(5):
        assert sweep.wait(LOST_SECONDS / 2, nodes=None) == []
        sweep.results += 1
        sweep.wait(2)


def test_a_lost_cluster_is_not_a_stall_too(sweep: Sweep) -> None:
    assert [finding.kind for finding in sweep.wait(1000, nodes=())] == ["broken"]


def test_a_disk_below_the_floor_is_found_at_once_and_once(sweep: Sweep) -> None:
    said = "the store's disk has 0.99 GB free, less than watch.disk_floor_gb = 1"
    assert sweep.look(free_bytes=10**9) == []
    assert sweep.look(free_bytes=990_000_000) == [Finding("disk", said)]
    assert sweep.look(free_bytes=0) == []
    assert sweep.look(free_bytes=10**9) == []
    assert [finding.kind for finding in sweep.look(free_bytes=0)] == ["disk"]


@pytest.mark.parametrize(("floor", "free"), [(0, 0), (1, None)])
def test_without_a_floor_or_a_disk_there_is_nothing_to_find(floor: float, free: int | None) -> None:
    assert Sweep({"disk_floor_gb": floor}).look(free_bytes=free) == []


def test_several_things_can_be_wrong_at_once(sweep: Sweep) -> None:
    found = sweep.wait(1000, running={"a": 0}, free_bytes=0)
    assert [finding.kind for finding in found] == ["disk", "warning"]


@pytest.mark.parametrize("leap", [-1e6, -1.0, 1e6])
def test_a_clock_that_is_set_back_or_leaps_is_no_stall(leap: float, sweep: Sweep) -> None:
    assert sweep.wait(200, running={"a": 0}) == []
    sweep.now += leap
    assert sweep.look(running={"a": 0}) == []
    assert len(sweep.wait(100, running={"a": 0})) == 1  # and the time before the leap still counts


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.booleans(), st.integers(0, 2), st.integers(0, 1)), max_size=200))
def test_whatever_is_seen_each_kind_is_said_only_after_it_had_been_well(
    scenes: list[tuple[float, bool, int, int]],
) -> None:
    sweep = Sweep({"stall_minutes": 2})
    last: dict[str, bool] = {}
    for now, progress, running, disk in scenes:
        sweep.now, sweep.results = now, sweep.results + progress
        found = sweep.look(running={"a": 0} if running else {}, free_bytes=disk * 10**9, pending={"b": ONE})
        kinds = [finding.kind for finding in found]
        assert len(set(kinds)) == len(kinds)
        assert ("disk" in kinds) == (not disk and not last.get("disk", False))
        assert not ("warning" in kinds and progress)
        last["disk"] = not disk
