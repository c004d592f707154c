"""How many trials a cluster holds: held to a packing by hand, and to what real Ray places."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.cluster.capacity import AHEAD, REFRESH_SECONDS, Capacity, check_fits, may_grow, slots
from search.errors import SearchError
from search.sections import Share
from search.spec import SweepSpec, cells, parse

CARD = 10_000


def sweep(models: Sequence[str] = ("vbpr",), **resources: object) -> SweepSpec:
    axes = {"model": list(models), "update": ["descent"]}
    return parse({"name": "s", "data": {"names": ["synthetic"]}, "axes": axes, "resources": resources})


def node(cpu: float = 0, gpu: float = 0, *, alive: bool = True, group: str | None = None) -> dict[str, Any]:
    """A node as ray.nodes() gives it: what it has none of is not there."""
    resources = {"memory": 1e9, **({"CPU": float(cpu)} if cpu else {}), **({"GPU": float(gpu)} if gpu else {})}
    return {"Alive": alive, "Resources": resources, "Labels": {"ray.io/node-group": group} if group else {}}


def limit(spec: SweepSpec, *nodes: Mapping[str, Any]) -> int:
    return Capacity(spec, cells(spec), nodes=lambda: nodes).limit()


def most(cpus: int, cards: int, shares: Sequence[Share]) -> int:
    """How many trials of these shares one node holds at most, found by trying everything, card by card."""

    @cache
    def fill(free: int, left: tuple[int, ...]) -> int:
        return max((1 + fill(free - share.cpu, rest) for share, rest in choices(free, left)), default=0)

    def choices(free: int, left: tuple[int, ...]) -> Iterator[tuple[Share, tuple[int, ...]]]:
        for share in shares:
            wanted = round(share.gpu * CARD)
            if share.cpu > free:
                continue
            if wanted == 0:
                yield share, left
            elif wanted <= CARD:
                for index in range(len(left)):
                    if left[index] >= wanted:
                        yield share, tuple(sorted((*left[:index], left[index] - wanted, *left[index + 1 :])))
            elif left.count(CARD) >= wanted // CARD:
                kept = sorted(left)[: len(left) - wanted // CARD]
                yield share, tuple(kept)

    return fill(cpus, (CARD,) * cards)


SHARES = st.builds(Share, st.integers(1, 3), st.sampled_from([0, 0.25, 0.3, 0.34, 0.5, 0.6, 1, 2]))


@given(st.integers(0, 7), st.integers(0, 3), SHARES)
def test_a_node_holds_what_trying_everything_finds(cpus: int, cards: int, share: Share) -> None:
    assert slots(node(cpus, cards)["Resources"], share) == most(cpus, cards, [share])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=3), st.lists(SHARES, min_size=2))
def test_no_mixture_of_cells_is_kept_waiting(nodes: list[tuple[int, int]], shares: list[Share]) -> None:
    shares = shares[:2]
    overrides = {"model.freedom": {"cpu": shares[1].cpu, "gpu": shares[1].gpu}}
    spec = sweep(("vbpr", "freedom"), cpu=shares[0].cpu, gpu=shares[0].gpu, overrides=overrides)

    assert limit(spec, *(node(*each) for each in nodes)) >= sum(most(*each, shares) for each in nodes)


@pytest.mark.parametrize(
    ("gpu", "held"),
    [
        (0.1, 10),
        (0.2, 5),
        (0.3, 3),
        (0.33, 3),
        (0.35, 2),
        (0.6, 1),
        (0.7, 1),
        (1, 1),
        (0.0003, 3333),
        (0.00001, 10_000),
    ],
)
def test_shares_of_one_card(gpu: float, held: int) -> None:
    assert slots({"CPU": 1e6, "GPU": 1.0}, Share(1, gpu)) == held
    assert slots({"CPU": 1e6, "GPU": 3.0}, Share(1, gpu)) == 3 * held


def test_the_cluster_holds_what_its_nodes_hold_one_by_one() -> None:
    # The first node's CPUs and the second one's cards are of no use to each other.
    assert limit(sweep(cpu=2, gpu=0.5), node(16), node(2, 8), node(5, 1), node(9, 3)) == 1 + 2 + 4
    assert limit(sweep(cpu=3), node(), node(5), node(5)) == 2, "the head has no CPU"
    assert limit(sweep(), node(4), node(64, alive=False)) == 4


def test_the_limit_is_never_below_one() -> None:
    assert limit(sweep(cpu=2), node()) == 1
    assert limit(sweep(cpu=2)) == 1
    assert limit(sweep(cpu=2, max_concurrent=3), node(1)) == 1


def test_more_is_suggested_than_fits_where_an_autoscaler_runs() -> None:
    head = node(group="ray.head.default")
    assert limit(sweep(), head) == AHEAD
    assert limit(sweep(), head, node(4, group="worker")) == 4 + AHEAD
    assert limit(sweep(max_concurrent=40), head) == 40
    assert limit(sweep(max_concurrent=2), head, node(4, group="worker")) == 2


def test_a_given_number_is_not_exceeded_where_nothing_grows() -> None:
    assert limit(sweep(max_concurrent=40), node(4)) == 4
    assert limit(sweep(max_concurrent=3), node(4)) == 3


def test_an_autoscaler_that_went_with_its_node_does_not_count() -> None:
    assert not may_grow([node(4), node(group="worker", alive=False)])
    assert not may_grow([{"Alive": True, "Resources": {}}]), "a node without labels"


def test_the_limit_follows_the_cluster_and_is_counted_now_and_then() -> None:
    time, present, asked = 0.0, [node(2)], 0

    def nodes() -> list[dict[str, Any]]:
        nonlocal asked
        asked += 1
        return present

    capacity = Capacity(sweep(), cells(sweep()), clock=lambda: time, nodes=nodes)
    assert capacity.limit() == 2

    present = [node(2), node(4)]
    time = REFRESH_SECONDS - 0.1
    assert (capacity.limit(), asked) == (2, 1)
    time = REFRESH_SECONDS
    assert (capacity.limit(), asked) == (6, 2)
    present = [node(2), node(4, alive=False)]
    time = 2 * REFRESH_SECONDS
    assert (capacity.limit(), asked) == (2, 3)


def test_the_last_count_holds_while_the_cluster_does_not_answer() -> None:
    time, answers = 0.0, True

    def nodes() -> list[dict[str, Any]]:
        if not answers:
            raise ConnectionError("no answer")
        return [node(3)]

    capacity = Capacity(sweep(), cells(sweep()), clock=lambda: time, nodes=nodes)
    assert capacity.limit() == 3
    answers, time = False, 100.0
    assert capacity.limit() == 3


def test_a_trial_of_every_cell_must_fit_on_one_node() -> None:
    spec = sweep(("vbpr", "freedom"), overrides={"model.freedom": {"cpu": 4, "gpu": 2}})
    check_fits(spec, [node(1), node(4, 2)])

    with pytest.raises(SearchError) as caught:
        check_fits(spec, [node(), node(8, 1), node(2, 8), node(8, 1), node(64, 8, alive=False)])
    assert str(caught.value) == (
        "resources: a trial must fit on one node, but one of synthetic/freedom/plain/descent/adam asks for 4 CPU and 2 "
        "GPU, and the cluster's nodes have 0 CPU and 0 GPU, 8 CPU and 1 GPU, 2 CPU and 8 GPU"
    )
    with pytest.raises(SearchError, match="have nothing, as none is alive"):
        check_fits(spec, [])


def test_a_share_of_a_card_fits_on_a_card() -> None:
    check_fits(sweep(gpu=0.1), [node(1, 1)])
    with pytest.raises(SearchError, match=r"1 CPU and 0\.5 GPU, and the cluster's nodes have 8 CPU and 0 GPU"):
        check_fits(sweep(gpu=0.5), [node(8)])


def bootstrap(folder: Path, **types: object) -> Path:
    path = folder / "ray_bootstrap_config.yaml"
    path.write_text(json.dumps({"available_node_types": types}))
    return path


def test_a_trial_may_wait_for_a_node_that_the_autoscaler_starts(tmp_path: Path) -> None:
    head = node(group="ray.head.default")
    described = bootstrap(
        tmp_path,
        head={"resources": {"CPU": 64, "GPU": 64}, "max_workers": 0},
        trainer={"resources": {"CPU": 8, "GPU": 1}, "min_workers": 0, "max_workers": 4},
    )
    check_fits(sweep(cpu=8, gpu=1), [head], described)
    check_fits(sweep(cpu=9), [head, node(9)], described)

    with pytest.raises(
        SearchError, match=r"8 CPU and 2 GPU, and .* autoscaler may start have 0 CPU and 0 GPU, 8 CPU and 1 GPU$"
    ):
        check_fits(sweep(cpu=8, gpu=2), [head], described)
    with pytest.raises(SearchError, match="the cluster's nodes have"):
        check_fits(sweep(cpu=8, gpu=1), [node()], described)


@pytest.mark.parametrize(
    "text",
    ["[]", "{", "text", '{"available_node_types": {"a": 1}}', '{"available_node_types": {"a": {"max_workers": 2}}}'],
)
def test_everything_may_fit_where_the_autoscalers_nodes_are_not_known(tmp_path: Path, text: str) -> None:
    head = node(group="ray.head.default")
    check_fits(sweep(cpu=8, gpu=2), [head], tmp_path / "missing")

    known = {"resources": {"CPU": 1}}
    check_fits(sweep(cpu=8, gpu=2), [head], bootstrap(tmp_path, known=known, other={"resources": {}}))
    described = tmp_path / "other.yaml"
    described.write_text(text)
    check_fits(sweep(cpu=8, gpu=2), [head], described)


@pytest.mark.slow
def test_ray_places_as_many_trials_as_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    spec = sweep(cpu=1, gpu=0.3)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False})
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        time = 0.0
        capacity = Capacity(spec, cells(spec), clock=lambda: time)
        assert capacity.limit() == 1
        cluster.add_node(num_cpus=9, num_gpus=1)
        monkeypatch.setenv("RAY_NODE_TYPE_NAME", "trainer")
        second = cluster.add_node(num_cpus=2, num_gpus=2)
        cluster.wait_for_nodes()
        check_fits(spec, ray.nodes())
        time = 10.0
        assert capacity.limit() == 3 + 2 + AHEAD

        groups = [ray.util.placement_group([{"CPU": 1, "GPU": 0.3}]) for _ in range(7)]
        placed, waiting = ray.wait([group.ready() for group in groups], num_returns=3 + 2, timeout=60)
        assert (len(placed), ray.wait(waiting, timeout=1)[0]) == (3 + 2, [])

        cluster.remove_node(second)
        time = 20.0
        assert capacity.limit() == 3
    finally:
        ray.shutdown()
        cluster.shutdown()
