"""How many trials a cluster holds, from what Ray says about its nodes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from search.errors import SearchError
from search.sections import Share
from search.spec import SweepSpec, cells
from search.study_spec import Cell

REFRESH_SECONDS = 5
"""How long a count of the cluster's nodes is good."""

AHEAD = 16
"""Trials beyond what fits, where an autoscaler runs: it starts nodes for what waits."""

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves the cluster's description on its head node."""

_GROUP = "ray.io/node-group"  # label of nodes that an autoscaler knows: set by `ray up` and by KubeRay
_CARD = 10_000  # Ray counts resources in such parts of one

Node = Mapping[str, Any]
"""An entry of ray.nodes()."""

Resources = Mapping[str, float]


def check_fits(spec: SweepSpec, nodes: Sequence[Node], bootstrap: Path = BOOTSTRAP) -> None:
    """Return if a trial of every cell fits on a node, or on one that the autoscaler may start.

    Where an autoscaler runs whose node types are not known here, everything may fit.

    Args:
        nodes: as ray.nodes() gives them; dead ones do not count.
        bootstrap: the description of the cluster; it is read where an autoscaler runs and something does not fit.

    Raises:
        SearchError: naming the first cell whose trials fit nowhere, and what there is.
    """
    places = list(_present(nodes))
    missing = _not_fitting(spec, places)
    there = "the cluster's nodes have"
    if missing is not None and may_grow(nodes):
        types = _node_types(bootstrap)
        places += types
        missing = _not_fitting(spec, places) if types else None
        there = "the cluster's nodes and those that its autoscaler may start have"
    if missing is not None:
        share = spec.resources.of(missing)
        found = dict.fromkeys(f"{each.get('CPU', 0):g} CPU and {each.get('GPU', 0):g} GPU" for each in places)
        raise SearchError(
            f"resources: a trial must fit on one node, but one of {missing.cell} asks for {share.cpu} CPU and "
            f"{share.gpu:g} GPU, and {there} {', '.join(found) or 'nothing, as none is alive'}"
        )


def may_grow(nodes: Sequence[Node]) -> bool:
    """Return whether an autoscaler may start nodes: `ray up` (since 2.50) and KubeRay label theirs with the type."""
    return any(_GROUP in (node.get("Labels") or {}) for node in nodes if node["Alive"])


class Capacity:
    """How many trials may run at once: as many as the cluster holds now, growing and shrinking with it."""

    def __init__(
        self,
        spec: SweepSpec,
        cells: Sequence[Cell],
        clock: Callable[[], float] = time.monotonic,
        nodes: Callable[[], Sequence[Node]] | None = None,
    ) -> None:
        """`nodes` gives what ray.nodes() gives, which is the default."""
        shares = [spec.resources.of(cell) for cell in cells]
        # No mixture of cells can hold more trials than the least of both would.
        self._least = Share(min(share.cpu for share in shares), min(share.gpu for share in shares))
        self._wanted = spec.resources.max_concurrent
        self._clock = clock
        self._nodes = nodes or _nodes
        self._counted: float | None = None
        self._limit = 1

    def limit(self) -> int:
        """Return the number of trials, at least 1; asked as often as one likes, counted every REFRESH_SECONDS.

        While the cluster does not answer, the last count holds.
        """
        now = self._clock()
        if self._counted is None or now - self._counted >= REFRESH_SECONDS:
            self._counted = now
            with suppress(ConnectionError):
                self._limit = self._count(self._nodes())
        return self._limit

    def _count(self, nodes: Sequence[Node]) -> int:
        grows = may_grow(nodes)
        held = sum(slots(resources, self._least) for resources in _present(nodes))
        if self._wanted == "auto":
            return max(1, held + AHEAD * grows)
        return self._wanted if grows else max(1, min(self._wanted, held))


def slots(resources: Resources, share: Share) -> int:
    """Return how many trials of one share a node holds; a share of a GPU below 1 lies on one card."""
    held = _parts(resources.get("CPU", 0)) // _parts(share.cpu)
    if not share.gpu:
        return held
    cards, wanted = _parts(resources.get("GPU", 0)), _parts(share.gpu)
    # In whole parts, because 1 // 0.1 is 9.
    return min(held, cards // _CARD * (_CARD // wanted) if share.gpu < 1 else cards // wanted)


def _parts(amount: float) -> int:
    """The amount in the parts that Ray counts in, at least one where there is any."""
    return max(round(amount * _CARD), int(amount > 0))


def _present(nodes: Sequence[Node]) -> Iterator[Resources]:
    return (node["Resources"] for node in nodes if node["Alive"])


def _not_fitting(spec: SweepSpec, places: Sequence[Resources]) -> Cell | None:
    """The first cell whose trials fit on none of the places."""
    fits = {share: any(slots(each, share) for each in places) for share in map(spec.resources.of, cells(spec))}
    return next((cell for cell in cells(spec) if not fits[spec.resources.of(cell)]), None)


def _node_types(bootstrap: Path) -> list[Resources]:
    """What nodes of each type have that the autoscaler may start; nothing where that is not known for all of them.

    Ray has no interface that tells. On the head node, where a submitted sweep is driven, it lies in a file.
    """
    try:
        described = yaml.safe_load(bootstrap.expanduser().read_text())["available_node_types"].values()
        started = [each for each in described if each.get("max_workers", 1) > 0]
        return [each["resources"] for each in started] if all(each.get("resources") for each in started) else []
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []


def _nodes() -> Sequence[Node]:
    import ray
    from ray.exceptions import RayError

    try:
        nodes: Sequence[Node] = ray.nodes()
    except RayError as error:
        raise ConnectionError(str(error)) from error
    return nodes
