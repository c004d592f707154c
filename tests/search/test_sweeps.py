"""The built-in sweeps: what each plans, held to the counts that strategies.md §11 and §11.1 state."""

from functools import cache
from typing import Any

import pytest

from search.plan import CellPlan, Plan, plan
from search.preparation import gradient_evaluations
from search.spec import builtin_sweeps, load, studies

# Amazon Baby with batches of 2,048: the example of §11.
BATCHES = 58
EVEN, ODD = BATCHES, BATCHES - 1

# Instead of 1,000, of which every one is counted by itself.
EPOCHS = 10

# §11.1: configurations of the published grids. Where a paper prints none, its row in spaces says whose it is.
CONFIGURATIONS = {
    "descent": 1,
    "mirror_gradient": 3,
    "sam": 4,
    "asam": 4,
    "fisher_sam": 4,
    "friendly_sam": 16,
    "bsam": 16,
    "sam_plus": 16,
    "asam_plus": 16,
    "fisher_sam_plus": 16,
    "bsam_plus": 64,
}

# §11: gradient evaluations of an epoch of 58 and of 57 batches. A `_plus` form takes three for two batches, and an odd
# last batch, a step of its own, takes two.
EVALUATIONS = {
    "descent": (58, 57),
    "double_batch": (58, 57),
    "extra_steps": (58, 57),
    "mirror_gradient": (78, 76),
    **dict.fromkeys(("sam", "asam", "fisher_sam", "friendly_sam", "bsam", "gnp"), (116, 114)),
    **dict.fromkeys(("sam_plus", "asam_plus", "fisher_sam_plus", "friendly_sam_plus", "bsam_plus"), (87, 86)),
}

# §11.1, last column: what the whole grid costs in runs of the base.
BASE_RUNS = {"descent": 1, "mirror_gradient": 4, "sam": 8, "friendly_sam": 32, "bsam": 32, "bsam_plus": 96}


@cache
def planned(sweep: str, batches: int, *overrides: str) -> Plan:
    spec = load(sweep, (*overrides, f"train.max_epochs={EPOCHS}"))
    return plan(spec, dict.fromkeys(spec.data.names, batches), gradient_evaluations)


def by_axis(sweep: str, axis: str, batches: int = BATCHES, *overrides: str) -> dict[str, list[CellPlan]]:
    """The plans of a sweep's cells, grouped by the entry of one axis."""
    found: dict[str, list[CellPlan]] = {}
    for study, cell in zip(studies(load(sweep, overrides)), planned(sweep, batches, *overrides).cells, strict=True):
        assert study.cell == cell.cell
        found.setdefault(study.entries()[axis], []).append(cell)  # type: ignore[index]
    return found


@pytest.mark.parametrize("sweep", builtin_sweeps())
@pytest.mark.parametrize(("batches", "place"), [(EVEN, 0), (ODD, 1)])
def test_an_epoch_of_every_default_update_costs_what_the_specification_says(
    sweep: str, batches: int, place: int
) -> None:
    tuned_beta = load(sweep).space.preset == "extended" and "update" in load(sweep).space.tune
    for update, cells in by_axis(sweep, "update", batches).items():
        for cell in cells:
            assert cell.batches == batches
            count = cell.gradient_evaluations_per_epoch
            if update == "mirror_gradient" and tuned_beta:
                # β is searched from 1, where every batch is mirrored, to 8.
                assert batches < count.low <= count.high <= 2 * batches
            else:
                assert (count.low, count.high) == (EVALUATIONS[update][place],) * 2


@pytest.mark.parametrize("sweep", builtin_sweeps())
def test_every_plan_is_exact(sweep: str) -> None:
    result = planned(sweep, BATCHES)
    assert result.gradient_evaluations.exact
    assert result.trials == sum(cell.configurations for cell in result.cells)
    assert len({cell.cell for cell in result.cells}) == len(result.cells)


class TestBSAMPaper:
    def test_tries_every_point_of_every_published_grid_once(self) -> None:
        for update, cells in by_axis("bsam-paper", "update").items():
            assert len(cells) == 9
            for cell in cells:
                assert cell.configurations == cell.space_size == cell.trials == CONFIGURATIONS[update]

    def test_compares_what_the_paper_compares(self) -> None:
        assert set(by_axis("bsam-paper", "update")) == set(CONFIGURATIONS)
        assert set(by_axis("bsam-paper", "objective")) == {"plain"}

    @pytest.mark.parametrize(("update", "runs"), BASE_RUNS.items())
    def test_costs_as_many_runs_of_the_base_as_the_specification_counts(self, update: str, runs: int) -> None:
        (cell,) = by_axis("bsam-paper", "update", BATCHES, "axes.model=[vbpr]")[update]
        base_run = BATCHES * EPOCHS
        assert cell.gradient_evaluations.low / base_run == pytest.approx(runs, rel=0.01)

    def test_with_a_second_pass_over_the_data_costs_twice_that(self) -> None:
        override = "space.fix.update.pairing=independent"
        (cell,) = by_axis("bsam-paper", "update", BATCHES, "axes.model=[vbpr]", override)["bsam_plus"]
        assert cell.gradient_evaluations_per_epoch.low == 3 * BATCHES
        assert cell.gradient_evaluations.low == 192 * BATCHES * EPOCHS

    def test_counts_trials_and_gradients_of_all_models(self) -> None:
        result = planned("bsam-paper", BATCHES)
        assert result.trials == 9 * sum(CONFIGURATIONS.values()) == 9 * 160
        per_model = sum(EVALUATIONS[update][0] * count for update, count in CONFIGURATIONS.items())
        assert result.gradient_evaluations.low == 9 * EPOCHS * per_model


class TestDVIBPaper:
    MODELS = ("vbpr", "mmgcn", "grcn", "bm3", "freedom", "selfcf", "layergcn")

    def test_has_the_models_that_the_paper_reports(self) -> None:
        assert tuple(by_axis("dvib-paper", "model")) == self.MODELS

    @pytest.mark.parametrize(("objective", "points"), [("plain", 1), ("dvib_c", 9), ("dvib_a", 3), ("entropy", 3)])
    def test_tries_every_point_of_every_published_grid_once(self, objective: str, points: int) -> None:
        cells = by_axis("dvib-paper", "objective")[objective]
        assert len(cells) == len(self.MODELS)
        assert {cell.configurations for cell in cells} == {cell.space_size for cell in cells} == {points}

    def test_searches_weights_and_noise_only(self) -> None:
        tuned = {name: cells[0].tuned for name, cells in by_axis("dvib-paper", "objective").items()}
        assert tuned == {
            "plain": (),
            "dvib_c": ("objective.gamma_d", "objective.sigma"),
            "dvib_a": ("objective.gamma_d",),
            "entropy": ("objective.gamma_d",),
        }

    def test_counts_trials_and_gradients(self) -> None:
        result = planned("dvib-paper", BATCHES)
        assert result.trials == 7 * (1 + 9 + 3 + 3)
        assert result.gradient_evaluations.low == 7 * 16 * BATCHES * EPOCHS

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [("[dvib_paper]", ("js", "sum", "eq13", 512)), ("[dvib_released]", ("released", "convex", "kl_std", 0))],
    )
    def test_trains_the_loss_that_its_settings_name(self, settings: str, expected: tuple[Any, ...]) -> None:
        found = {study.objective: study for study in studies(load("dvib-paper", [f"space.settings={settings}"]))}
        keys = ("objective.distill", "objective.combine", "objective.reg", "objective.distill_rows")
        adaptive = found["dvib_a"].config(found["dvib_a"].space.point(0), 999)
        assert tuple(adaptive[key] for key in keys) == expected
        constant = found["dvib_c"].config(found["dvib_c"].space.point(0), 999)
        assert tuple(constant.get(key) for key in keys) == (*expected[:2], None, expected[3])
        assert not {*keys[:3]} & set(found["entropy"].config(found["entropy"].space.point(0), 999))


class TestMGAgainstSAMAgainstBSAM:
    def test_gives_every_arm_and_every_control_the_same_trials(self) -> None:
        arms = by_axis("mg-vs-sam-vs-bsam", "update")
        assert {cell.trials for cells in arms.values() for cell in cells} == {32}
        assert {"extra_steps", "double_batch", "friendly_sam"} <= set(arms)

    def test_tunes_the_learning_rate_of_every_arm_and_the_numbers_of_those_that_have_some(self) -> None:
        tuned = {update: set(cells[0].tuned) for update, cells in by_axis("mg-vs-sam-vs-bsam", "update").items()}
        assert all("optimizer.learning_rate" in names for names in tuned.values())
        assert tuned["descent"] == tuned["double_batch"] == {"optimizer.learning_rate"}
        assert tuned["bsam_plus"] == {
            "optimizer.learning_rate", "update.rho", "update.ema_decay", "update.kappa",
        }  # fmt: skip


class TestRobustness:
    def test_trains_every_arm_at_its_default_point_and_tunes_nothing(self) -> None:
        cells = planned("robustness", BATCHES).cells
        assert {(cell.configurations, cell.tuned, cell.space_size) for cell in cells} == {(1, (), 1)}

    def test_has_the_arms_that_claim_robustness(self) -> None:
        assert set(by_axis("robustness", "update")) == {"descent", "mirror_gradient", "sam", "bsam_plus"}
        assert set(by_axis("robustness", "objective")) == {"plain", "dvib_c"}

    def test_judges_them_under_corruptions(self) -> None:
        protocols = load("robustness").protocols
        assert protocols is not None
        assert protocols.robustness is not None
