"""The comparison of arms on real stores: numbers against a second computation, refusals, and odd sweeps."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search import tuning_cost
from search.arms import UNITS
from search.comparison import COST_UNITS, compare
from search.errors import ComparisonError

NewSweep = Callable[..., Any]
DESCENT, SAM = "lfm2k/vbpr/plain/descent/adam", "lfm2k/vbpr/plain/sam/adam"
GRID = {"preset": "paper", "tune": ["update"]}


@pytest.fixture
def two_arms(new_sweep: NewSweep) -> Any:
    """Return a sweep in which descent and sam ran eight trials each, those of sam at twice the cost and better."""
    writer = new_sweep()
    for place in range(8):
        writer.trial(DESCENT, 0.20 + 0.001 * place, passes=100, epochs=10)
        writer.trial(SAM, 0.25 + 0.001 * place, passes=200, epochs=10)
    return writer


def test_every_arm_is_read_at_the_budget_of_the_one_that_spent_least(two_arms: Any) -> None:
    result = compare(two_arms.store, ["sample"])
    assert result.arms == ("descent", "sam")
    assert result.tasks["budget"].tolist() == [8 * 1000]
    assert result.results["affordable"].tolist() == [8, 4]
    expected = tuning_cost.expected_best([0.25 + 0.001 * place for place in range(8)], 4)
    assert result.results["expected_best"].tolist() == pytest.approx([0.207, expected])
    assert "8,000 gradient evaluations on lfm2k/vbpr" in result.budget_statement


def test_arms_far_apart_are_told_apart_and_the_sentence_names_test_and_tasks(two_arms: Any) -> None:
    (verdict,) = compare(two_arms.store, ["sample"]).verdicts.to_dict("records")
    assert verdict["winner"] == "sam"
    assert verdict["sentence"].startswith("sam is better than descent at this budget, by 0.0")
    assert "permutation test on 1 task, Holm-corrected" in verdict["sentence"]


def test_arms_that_overlap_cannot_be_told_apart(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    for place in range(6):
        writer.trial(DESCENT, 0.2 + 0.01 * place)
        writer.trial(SAM, 0.2005 + 0.01 * place)
    result = compare(writer.store, ["sample"])
    assert result.verdicts["winner"].tolist() == [None]
    assert "cannot be told apart at this budget" in result.verdicts["sentence"].iloc[0]
    assert result.summary == "The two arms cannot be told apart at this budget."


def test_six_tasks_are_judged_by_signed_ranks(new_sweep: NewSweep) -> None:
    writer = new_sweep(data={"names": [f"set{number}" for number in range(6)], "root": "/data"})
    for number in range(6):
        for update, lift in (("descent", 0.0), ("sam", 0.01 * (number + 1))):
            for place in range(3):
                writer.trial(f"set{number}/vbpr/plain/{update}/adam", 0.2 + lift + 0.001 * place)
    (verdict,) = compare(writer.store, ["sample"]).verdicts.to_dict("records")
    assert verdict["test"] == "Wilcoxon signed-rank test"
    assert verdict["tasks"] == 6
    assert verdict["p_value"] == pytest.approx(2 / 2**6)
    assert verdict["winner"] == "sam"


def test_the_base_score_is_that_of_the_default_configuration_where_it_was_run(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, 0.21, point={"optimizer.learning_rate": 0.001})
    writer.trial(DESCENT, 0.24, point={"optimizer.learning_rate": 0.002})
    writer.trial(SAM, 0.26)
    task = compare(writer.store, ["sample"]).tasks.iloc[0]
    assert (task["base"], task["base_source"]) == (0.21, "its default configuration")
    assert (task["tuned_base"], task["reference"], task["reference_arm"]) == (0.24, 0.26, "sam")


def test_a_sweep_that_tuned_nothing_says_what_the_arms_are_worth_untuned_and_costs_nothing(
    new_sweep: NewSweep, two_arms: Any
) -> None:
    alone = compare(two_arms.store, ["sample"])
    defaults = new_sweep(name="defaults", space={"tune": []}, search={"trials": 1})
    defaults.trial(DESCENT, 0.19)
    defaults.trial(SAM, 0.27)
    defaults.flush()
    both = compare(two_arms.store, ["sample", "defaults"])
    assert both.results.set_index("arm")["default_score"].to_dict() == {"descent": 0.19, "sam": 0.27}
    assert (both.tasks["base"][0], both.tasks["base_source"][0]) == (0.19, "its default configuration")
    for column in ("trials", "cost", "expected_best", "best"):
        assert both.results[column].tolist() == alone.results[column].tolist()
    untuned = both.answers.set_index("question")["answer"]["Without tuning"]
    assert "sam 0.2700 (+0.0800)" in untuned and "were not run" not in untuned


def test_one_configuration_that_is_not_the_default_is_no_default_run(new_sweep: NewSweep, two_arms: Any) -> None:
    other = new_sweep(name="other", space={"tune": [], "fix": {"update.rho": 0.3}}, search={"trials": 1})
    other.trial(SAM, 0.27)
    other.flush()
    with pytest.raises(ComparisonError, match="must search the same space, but sample and other do not"):
        compare(two_arms.store, ["sample", "other"])


def test_without_a_default_run_the_base_score_is_the_median_of_complete_configurations(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    for score in (0.20, 0.22, 0.23):
        writer.trial(DESCENT, score)
    writer.trial(DESCENT, 0.05, status="pruned")
    writer.trial(SAM, 0.26)
    result = compare(writer.store, ["sample"])
    assert result.tasks["base"].tolist() == [0.22]
    assert any("median of 3 configurations" in note for note in result.notes)


def test_failed_trials_count_with_their_cost_and_the_worst_score_of_the_task(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    for score in (0.20, 0.22):
        writer.trial(DESCENT, score, epochs=10)
    writer.trial(SAM, 0.30, epochs=10)
    writer.trial(SAM, None, status="diverged", epochs=5)
    writer.trial(SAM, 0.29, status="failed", epochs=5)
    writer.trial(SAM, None, status="finished", epochs=5)
    row = compare(writer.store, ["sample"]).results.set_index("arm").loc["sam"]
    assert (row["finished"], row["failed"], row["trials"], row["cost"]) == (1, 3, 4, 2500)
    # The budget of 2000 buys three of sam's at 625 each.
    assert row["expected_best"] == pytest.approx(tuning_cost.expected_best([0.30, 0.20, 0.20, 0.20], 3))
    assert row["harm_rate"] == 0.75


def test_trials_cut_short_count_but_leave_the_harm_rate_open(two_arms: Any) -> None:
    two_arms.trial(SAM, 0.1, status="pruned", epochs=2, passes=200)
    result = compare(two_arms.store, ["sample"])
    row = result.results.set_index("arm").loc["sam"]
    assert (row["truncated"], row["trials"], row["cost"]) == (1, 9, 16400)
    assert math.isnan(row["harm_rate"])
    assert any("pruned or stopped early: 1" in note for note in result.notes)


def test_running_and_lost_trials_are_left_out_and_said_so(two_arms: Any) -> None:
    before = compare(two_arms.store, ["sample"]).results
    two_arms.trial(SAM, 0.9, status="running", ended=None)
    two_arms.trial(SAM, 0.9, status="lost")
    after = compare(two_arms.store, ["sample"])
    assert after.results.equals(before)
    assert any("still run or were lost with their machine: 2" in note for note in after.notes)


def test_seeds_of_one_configuration_count_once_with_their_mean_and_their_total_cost(new_sweep: NewSweep) -> None:
    writer = new_sweep(search={"sampler": "random", "trials": 4, "seeds": [1, 2]})
    for rate in (0.001, 0.002):
        for seed in (1, 2):
            writer.trial(DESCENT, 0.2 + 10 * rate + 0.01 * seed, seed=seed, point={"optimizer.learning_rate": rate})
    for seed, score in ((1, 0.4), (2, 0.5)):
        writer.trial(SAM, score, seed=seed, point={"optimizer.learning_rate": 0.001, "update.rho": 0.3})
    point = {"optimizer.learning_rate": 0.003, "update.rho": 0.3}
    writer.trial(SAM, 0.9, seed=1, point=point)
    writer.trial(SAM, None, seed=2, status="diverged", point=point)
    result = compare(writer.store, ["sample"]).results.set_index("arm")
    assert result["trials"].tolist() == [2, 2]
    assert result.loc["descent", "cost"] == 4 * 3000
    # The configuration of which one seed diverged has failed, so 0.9 is not its score.
    assert result.loc["sam", "best"] == pytest.approx(0.45)


def test_a_target_that_nobody_reached_is_censored(two_arms: Any) -> None:
    targets = compare(two_arms.store, ["sample"]).targets
    never = targets[(targets["arm"] == "descent") & targets["target"].str.startswith("90 %")].iloc[0]
    assert never["censored"] and math.isnan(never["cost"]) and never["hits"] == 0
    reached = targets[(targets["arm"] == "sam") & targets["target"].str.startswith("100 %")].iloc[0]
    assert (reached["hits"], reached["trials"], reached["cost"]) == (1, pytest.approx(4.5), pytest.approx(9000))


@pytest.mark.parametrize(("mode", "turn"), [("max", 1), ("min", -1)])
def test_targets_lie_between_base_and_reference_and_above_the_tuned_base(
    new_sweep: NewSweep, mode: str, turn: int
) -> None:
    writer = new_sweep(goal={"metric": "recall@20", "mode": mode})
    for score in (0.50, 0.50 + turn * 0.02, 0.50 - turn * 0.1):
        writer.trial(DESCENT, score)
    writer.trial(SAM, 0.50 + turn * 0.2)
    result = compare(writer.store, ["sample"])
    scores = result.targets[result.targets["arm"] == "sam"].set_index("target")["score"].to_dict()
    best, tuned = 0.5 + turn * 0.2, 0.5 + turn * 0.02
    assert scores == pytest.approx(
        {
            "50 % of the known gain": 0.5 + turn * 0.1,
            "90 % of the known gain": 0.5 + turn * 0.18,
            "100 % of the known gain": best,
            "within 1% of the best known": best - turn * 0.01 * best,
            f"tuned base {'+' if turn > 0 else '−'} 0.5 %": tuned + turn * 0.005 * tuned,
        }
    )
    gain = result.results.set_index("arm")["gain"]
    assert gain["sam"] == pytest.approx(0.4)


def test_the_area_under_regret_runs_from_one_base_configuration_to_the_common_budget(two_arms: Any) -> None:
    """The curves are steps that a search by hand finds again: a mean over the logarithm of the budget."""
    result = compare(two_arms.store, ["sample"])
    task = result.tasks.iloc[0]
    for arm, rows in result.curves.groupby("arm"):
        axis = np.geomspace(1000, task["budget"], 200_001)
        values = np.interp(axis, rows["budget"], rows["value"])
        regret = (task["reference"] - values) / (task["reference"] - task["base"])
        area = result.results.set_index("arm").loc[str(arm), "regret_area"]
        assert area == pytest.approx(regret.mean(), abs=0.005)


def test_curves_hold_what_their_budgets_buy_and_are_trusted_up_to_a_third(two_arms: Any) -> None:
    result = compare(two_arms.store, ["sample"])
    rows = result.curves[result.curves["arm"] == "sam"].set_index("budget")
    exact = tuning_cost.expected_best_curve([0.25 + 0.001 * place for place in range(8)])
    assert rows.loc[2000 * 5, "value"] == pytest.approx(exact[4], abs=0.0005)
    assert rows.loc[16_000, "value"] == pytest.approx(0.257)
    assert rows.loc[0, "value"] == pytest.approx(result.tasks["base"].iloc[0])
    assert rows.index[rows["trusted"]].max() <= 16_000 / 3 < rows.index[~rows["trusted"]].min()
    bands = result.bands[result.bands["arm"] == "sam"]
    assert bands["budget"].tolist() == [2000.0 * k for k in range(1, 9)]
    assert bands["upper"].max() == 1.0 and bands["trusted"].tolist() == [True] * 2 + [False] * 6


def test_over_tasks_a_difference_is_the_mean_share_of_the_base_score(new_sweep: NewSweep) -> None:
    writer = new_sweep(data={"names": ["books", "films"], "root": "/data"})
    for dataset, base, lift in (("books", 0.2, 0.02), ("films", 0.4, 0.12)):
        for update, add in (("descent", 0.0), ("sam", lift)):
            writer.trial(f"{dataset}/vbpr/plain/{update}/adam", base + add)
    (verdict,) = compare(writer.store, ["sample"]).verdicts.to_dict("records")
    assert verdict["difference"] == pytest.approx(-(0.1 + 0.3) / 2)


def test_verdicts_on_the_base_arm_come_before_those_on_other_pairs_and_after_those_told_apart(
    new_sweep: NewSweep,
) -> None:
    writer = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam", "bsam"]})
    for place in range(10):
        writer.trial(DESCENT, 0.2 + 0.01 * place)
        writer.trial(SAM, 0.205 + 0.01 * place)
        writer.trial("lfm2k/vbpr/plain/bsam/adam", 0.8 + 0.001 * place)
    verdicts = compare(writer.store, ["sample"]).verdicts
    assert verdicts["winner"].tolist() == ["bsam", "bsam", None]
    writer.trial(DESCENT, 0.9)
    verdicts = compare(writer.store, ["sample"]).verdicts
    undecided = verdicts[verdicts["winner"].isna()]
    against_base = (undecided[["first", "second"]] == "descent").any(axis=1).tolist()
    assert against_base == sorted(against_base, reverse=True)
    decided = verdicts["winner"].notna().tolist()
    assert decided == sorted(decided, reverse=True)


def test_smaller_is_better_where_the_goal_says_so(new_sweep: NewSweep) -> None:
    writer = new_sweep(goal={"metric": "recall@20", "mode": "min"})
    for place in range(8):
        writer.trial(DESCENT, 0.5 + 0.001 * place)
        writer.trial(SAM, 0.3 + 0.001 * place)
    result = compare(writer.store, ["sample"])
    assert result.verdicts["winner"].tolist() == ["sam"]
    assert result.tasks["reference"].tolist() == [0.3]
    assert result.results.set_index("arm")["harm_rate"].tolist() == [0.5, 0.0]
    assert (result.results["gain"] > 0).all()


def test_one_trial_an_arm_is_enough_for_numbers_but_not_for_a_verdict(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, 0.2)
    writer.trial(SAM, 0.3)
    result = compare(writer.store, ["sample"])
    assert result.results["trials"].tolist() == [1, 1]
    assert result.verdicts["winner"].tolist() == [None]


def test_equal_scores_everywhere_leave_no_gain_to_reach(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    for _ in range(3):
        writer.trial(DESCENT, 0.2)
        writer.trial(SAM, 0.2)
    result = compare(writer.store, ["sample"])
    assert result.targets["target"].unique().tolist() == ["within 1% of the best known", "tuned base + 0.5 %"]
    assert any("no arm found anything better" in note for note in result.notes)
    assert result.verdicts["p_value"].tolist() == [1.0]


def test_the_same_seed_gives_the_same_numbers_and_another_arm_moves_no_curve(new_sweep: NewSweep) -> None:
    writer = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam", "bsam"]})
    for place in range(9):
        for update in ("descent", "sam", "bsam"):
            writer.trial(f"lfm2k/vbpr/plain/{update}/adam", 0.2 + 0.01 * ((7 * place) % 9), epochs=5 + place)
    whole, again = (compare(writer.store, ["sample"]) for _ in range(2))
    part = compare(writer.store, ["sample"], ["sam"])
    assert whole.curves.equals(again.curves)
    assert whole.verdicts.equals(again.verdicts)
    first, second = (frame.query("arm == 'sam'")["value"].to_numpy() for frame in (whole.curves, part.curves))
    assert np.array_equal(first, second)


def test_curves_never_go_beyond_what_an_arm_spent_unless_it_tried_its_whole_space(new_sweep: NewSweep) -> None:
    writer = new_sweep(space=GRID, search={"sampler": "grid", "trials": 10, "seeds": [999]})
    writer.trial(DESCENT, 0.2, passes=100, epochs=10)
    for rho in (0.05, 0.1, 0.15, 0.2):
        writer.trial(SAM, 0.2 + rho / 10, passes=200, epochs=10, point={"update.rho": rho})
    result = compare(writer.store, ["sample"])
    ends = result.curves.groupby("arm")["budget"].max()
    assert ends.to_dict() == {"descent": 8000, "sam": 8000}
    assert result.results["space_size"].tolist() == [1, 4]
    assert result.curves["trusted"].all()
    assert result.results["default_regret"].tolist() == pytest.approx([0.0, 0.01])


def test_where_the_base_arm_has_nothing_to_tune_the_statement_says_so(new_sweep: NewSweep) -> None:
    writer = new_sweep(space={"preset": "extended", "tune": ["update"]})
    writer.trial(DESCENT, 0.2, epochs=10)
    for score in (0.1, 0.3):
        writer.trial(SAM, score, epochs=10)
    result = compare(writer.store, ["sample"])
    assert "descent, has nothing to tune" in result.budget_statement
    assert result.tasks["base_source"].tolist() == ["its only configuration"]
    assert result.results["affordable"].tolist() == [1, 2]


def test_where_nothing_is_tuned_every_arm_is_read_after_its_only_configuration(new_sweep: NewSweep) -> None:
    writer = new_sweep(space={"preset": "extended", "tune": []})
    writer.trial(DESCENT, 0.2, passes=100)
    writer.trial(SAM, 0.3, passes=200)
    result = compare(writer.store, ["sample"])
    assert result.budget_statement.startswith("No arm has anything to tune")
    assert result.results["expected_best"].tolist() == [0.2, 0.3]


def test_a_sweep_that_two_names_share_counts_every_trial_once(new_sweep: NewSweep, two_arms: Any) -> None:
    copy = new_sweep(name="copy")
    point = {"optimizer.learning_rate": 0.004}
    for writer in (two_arms, copy):
        writer.trial(DESCENT, 0.22, point=point)
        writer.flush()
    result = compare(two_arms.store, ["sample", "copy", "sample"])
    assert result.sweeps == ("sample", "copy")
    assert result.results.set_index("arm").loc["descent", "trials"] == 9


def test_budgets_can_be_counted_in_trials_and_in_seconds(two_arms: Any) -> None:
    assert set(COST_UNITS) == set(UNITS)
    assert compare(two_arms.store, ["sample"], cost="trials").tasks["budget"].tolist() == [8.0]
    assert compare(two_arms.store, ["sample"], cost="device_seconds").tasks["budget"].tolist() == [160.0]


def refusal(writer: Any, *arms: str) -> str:
    with pytest.raises(ComparisonError) as caught:
        compare(writer.store, [writer.name], arms)
    return str(caught.value)


def test_an_adaptive_sampler_is_refused(new_sweep: NewSweep) -> None:
    writer = new_sweep(search={"sampler": "tpe", "trials": 4})
    writer.trial(DESCENT, 0.2)
    assert refusal(writer).endswith(
        "it is tpe, which learns from earlier ones; launch it again with search.sampler=random"
    )


def test_an_unknown_arm_is_refused_with_the_nearest_name(two_arms: Any) -> None:
    assert refusal(two_arms, "sma").endswith("but got 'sma'; did you mean 'sam'?")


def test_a_sweep_without_a_finished_trial_is_refused(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, None, status="diverged")
    assert "at least one trial must have finished with a score" in refusal(writer)


def test_a_sweep_without_the_base_arm_is_refused(new_sweep: NewSweep) -> None:
    writer = new_sweep(axes={"model": ["vbpr"], "update": ["sam", "bsam"]})
    writer.trial(SAM, 0.2)
    assert "the base arm `descent`" in refusal(writer)


def test_a_base_arm_that_only_failed_is_refused(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, None, status="failed")
    writer.trial(SAM, 0.3)
    assert "but it has only failed ones" in refusal(writer)


def test_a_single_arm_is_refused(new_sweep: NewSweep) -> None:
    writer = new_sweep(axes={"model": ["vbpr"], "update": ["descent"]})
    writer.trial(DESCENT, 0.2)
    assert "at least two arms" in refusal(writer)


def test_the_first_points_of_a_grid_are_refused(new_sweep: NewSweep) -> None:
    writer = new_sweep(space=GRID, search={"sampler": "grid", "trials": 2, "seeds": [999]})
    writer.trial(DESCENT, 0.2)
    writer.trial(SAM, 0.3, point={"update.rho": 0.05})
    assert "a grid must be run whole" in refusal(writer)


def test_trials_on_different_data_are_refused(two_arms: Any) -> None:
    two_arms.trial(SAM, 0.3, data_digest="another")
    assert "must share one data_digest" in refusal(two_arms)


def test_pooled_sweeps_must_have_searched_the_same_space(new_sweep: NewSweep, two_arms: Any) -> None:
    other = new_sweep(name="other", space={"preset": "paper", "tune": ["update", "optimizer"]})
    other.trial(SAM, 0.3)
    other.flush()
    with pytest.raises(ComparisonError, match="must search the same space, but sample and other do not"):
        compare(two_arms.store, ["sample", "other"])


def test_a_trial_of_which_there_are_only_estimates_has_no_score_and_has_not_failed(new_sweep: NewSweep) -> None:
    train = {"max_epochs": 200, "early_validation": {"epochs": 10, "users": 512}}
    writer = new_sweep(train=train)
    for score in (0.20, 0.22):
        writer.trial(DESCENT, score, epochs=10)
    writer.trial(SAM, 0.30, epochs=10)
    writer.trial(SAM, None, status="pruned", epochs=5)
    result = compare(writer.store, ["sample"])
    row = result.results.set_index("arm").loc["sam"]
    assert (row["finished"], row["truncated"], row["failed"], row["trials"], row["cost"]) == (1, 1, 0, 2, 1500)
    # The budget of 2000 buys both; the estimate counts as the worst score of the task.
    assert row["expected_best"] == pytest.approx(tuning_cost.expected_best([0.30, 0.20], 2))
    assert math.isnan(row["harm_rate"])
    assert any("only estimates of their scores: 1." in note for note in result.notes)
    assert not any("never validated" in note or "early: 1" in note for note in result.notes)


def test_a_pruned_trial_without_a_score_has_failed_where_nothing_was_estimated(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, 0.20)
    writer.trial(DESCENT, 0.22)
    writer.trial(SAM, 0.30)
    writer.trial(SAM, None, status="pruned", epochs=5)
    result = compare(writer.store, ["sample"])
    row = result.results.set_index("arm").loc["sam"]
    assert (row["truncated"], row["failed"], row["harm_rate"]) == (0, 1, 0.5)
    assert any("never validated: 1." in note for note in result.notes)
    assert not any("estimates" in note for note in result.notes)


@pytest.mark.parametrize(("trials", "said"), [((16, 15), "sam on lfm2k/vbpr has 15 configurations"), ((16, 16), None)])
def test_the_arm_with_the_fewest_configurations_is_named_where_they_are_few(
    new_sweep: NewSweep, trials: tuple[int, int], said: str | None
) -> None:
    writer = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]})
    for update, count in zip(("descent", "sam"), trials, strict=True):
        writer.sample(
            f"lfm2k/vbpr/plain/{update}/adam", count, lambda point: float(point["optimizer.learning_rate"]), 100
        )
    few = [note for note in compare(writer.store, ["sample"]).notes if "no arm fewer" in note]
    assert few == [] if said is None else len(few) == 1 and few[0].startswith(said)


def test_an_arm_whose_space_was_run_whole_has_no_few_configurations(new_sweep: NewSweep) -> None:
    writer = new_sweep(axes={"model": ["vbpr"], "update": ["descent", "sam"]}, space={"tune": ["update"]})
    writer.trial(DESCENT, 0.2)
    writer.sample("lfm2k/vbpr/plain/sam/adam", 16, lambda point: 0.2 + float(point["update.rho"]) / 100, 100)
    assert not any("no arm fewer" in note for note in compare(writer.store, ["sample"]).notes)
