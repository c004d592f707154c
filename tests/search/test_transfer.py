"""What the best configuration of one data set misses on another, and that it is not made up where nothing is shared."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import compare
from search.report import write_comparison
from search.report.comparison_tables import transfer_table
from search.transfer import transfer_regret
from search.wording import share

NewSweep = Callable[..., Any]
RADII = (0.05, 0.10, 0.15, 0.20)
GRID = {"preset": "paper", "tune": ["update"]}
scores = st.dictionaries(st.integers(0, 4).map(lambda key: (("rho", key),)), st.integers(0, 3).map(float), max_size=5)


def grid_sweep(new_sweep: NewSweep, on_books: tuple[float, ...], on_films: tuple[float | None, ...]) -> Any:
    writer = new_sweep(
        data={"names": ["books", "films"], "root": "/data"},
        space=GRID,
        search={"sampler": "grid", "trials": 10, "seeds": [999]},
    )
    for dataset, found in (("books", on_books), ("films", on_films)):
        writer.trial(f"{dataset}/vbpr/plain/descent/adam", 0.2)
        for radius, score in zip(RADII, found, strict=True):
            status = "finished" if score is not None else "diverged"
            writer.trial(f"{dataset}/vbpr/plain/sam/adam", score, point={"update.rho": radius}, status=status)
    return writer


def test_the_regret_is_what_the_sources_best_radius_misses_on_the_target(new_sweep: NewSweep) -> None:
    writer = grid_sweep(new_sweep, (0.30, 0.35, 0.25, 0.20), (0.40, 0.36, 0.44, 0.30))
    found = compare(writer.store, ["sample"])
    rows = found.transfer.set_index(["source", "target"])
    assert found.transfer["arm"].tolist() == ["sam", "sam"], "descent has nothing to tune"
    assert rows.loc[("books", "films"), "regret"] == pytest.approx(0.44 - 0.36)
    assert rows.loc[("books", "films"), "relative"] == pytest.approx(0.08 / 0.44)
    assert rows.loc[("films", "books"), "regret"] == pytest.approx(0.35 - 0.25)
    assert rows["shared"].tolist() == [4, 4] and set(rows["setting"]) == {"vbpr"}
    assert not any("not known" in note for note in found.notes)
    (shown,) = transfer_table(found).rows
    mean = (0.08 / 0.44 + 0.10 / 0.35) / 2
    assert shown == ["vbpr", "sam", "2", "0.0900", share(mean), share(0.10 / 0.35), "films, books"]


def test_a_configuration_that_failed_on_the_target_has_the_worst_score_there(new_sweep: NewSweep) -> None:
    writer = grid_sweep(new_sweep, (0.30, 0.35, 0.25, 0.20), (0.40, None, 0.44, 0.30))
    rows = compare(writer.store, ["sample"]).transfer.set_index(["source", "target"])
    assert rows.loc[("books", "films"), "regret"] == pytest.approx(0.44 - 0.20), "0.2 is the worst seen on films"


def test_a_loss_transfers_like_its_negative(new_sweep: NewSweep) -> None:
    writer = new_sweep(
        data={"names": ["books", "films"], "root": "/data"}, space=GRID, goal={"metric": "recall@20", "mode": "min"}
    )
    for dataset, losses in (("books", (3.0, 1.0, 2.0, 4.0)), ("films", (5.0, 7.0, 6.0, 8.0))):
        writer.trial(f"{dataset}/vbpr/plain/descent/adam", 9.0)
        for radius, loss in zip(RADII, losses, strict=True):
            writer.trial(f"{dataset}/vbpr/plain/sam/adam", loss, point={"update.rho": radius})
    rows = compare(writer.store, ["sample"]).transfer.set_index(["source", "target"])
    assert rows["regret"].to_dict() == {("books", "films"): 2.0, ("films", "books"): 2.0}
    assert rows.loc[("books", "films"), "relative"] == pytest.approx(2 / 5)


def test_random_points_of_two_data_sets_share_nothing_and_the_page_says_so(new_sweep: NewSweep, tmp_path: Any) -> None:
    writer = new_sweep(data={"names": ["books", "films"], "root": "/data"})
    for dataset in ("books", "films"):
        for update in ("descent", "sam"):
            for place in range(3):
                writer.trial(f"{dataset}/vbpr/plain/{update}/adam", 0.2 + 0.01 * place)
    found = compare(writer.store, ["sample"])
    assert set(found.transfer["shared"]) == {0} and found.transfer["regret"].isna().all()
    note = "Whether the best configuration of one data set serves another is not known"
    assert any(each.startswith(note) for each in found.notes)
    assert note in write_comparison(found, tmp_path).read_text()


def test_one_data_set_has_no_transfer_and_no_word_on_it(new_sweep: NewSweep) -> None:
    writer = new_sweep(axes={"model": ["vbpr", "lightgcn"], "update": ["descent", "sam"]})
    for model in ("vbpr", "lightgcn"):
        for update in ("descent", "sam"):
            writer.trial(f"lfm2k/{model}/plain/{update}/adam", 0.2)
    found = compare(writer.store, ["sample"])
    assert found.transfer.empty and not any("serves another" in note for note in found.notes)


@given(scores, scores)
def test_the_regret_is_a_mean_over_the_sources_best_of_both(source: dict[Any, float], target: dict[Any, float]) -> None:
    both = sorted(set(source) & set(target))
    found = transfer_regret(source, target)
    if len(both) < 2:
        assert found is None
        return
    best = [point for point in both if all(source[point] >= source[other] for other in both)]
    misses = [max(target[other] for other in both) - target[point] for point in best]
    assert found == pytest.approx(math.fsum(misses) / len(misses))
    assert found >= 0


@given(scores)
def test_a_data_set_transfers_to_itself_without_regret(found: dict[Any, float]) -> None:
    assert transfer_regret(found, found) in (None, 0.0)
