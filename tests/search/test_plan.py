"""Counts and predicted times, against sums made one trial at a time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.plan import CellTiming, Count, Estimate, ProtocolRuns, plan, predict
from search.points import planned_points
from search.spec import parse, studies


def per_epoch(config, batches):
    """The table of strategies.md §11 for an update, for even numbers of batches."""
    match config["update.name"]:
        case "descent":
            return batches
        case "mirror_gradient":
            return batches + math.ceil(batches / config["update.beta"])
        case "sam" | "bsam":
            return 2 * batches
        case "sam_plus" | "bsam_plus":
            return (3 if config["update.pairing"] == "independent" else 3 / 2) * batches


def gradient_evaluations(config, batches):
    """Each epoch of a trial; an adversarial loss costs two once it is warm."""
    epochs = range(1, config["train.max_epochs"] + 1)
    warm = config.get("objective.warmup_epochs", math.inf)
    return [int(per_epoch(config, batches)) * (2 if epoch > warm else 1) for epoch in epochs]


def sweep(updates=("descent", "mirror_gradient", "sam", "bsam_plus"), **sections):
    raw = {
        "name": "s",
        "data": {"names": ["synthetic", "baby"]},
        "axes": {"model": ["vbpr"], "update": list(updates)},
        "space": {"tune": ["update", "optimizer"]},
        "search": {"trials": 6, "seeds": [1, 2]},
        "train": {"max_epochs": 10, "validate_every": 3},
    }
    return parse({**raw, **sections})


BATCHES = {"synthetic": 8, "baby": 58}


def one_by_one(spec):
    """Gradient evaluations per epoch of every trial, cell by cell, for samplers whose points are known."""
    result = {}
    for study in studies(spec):
        counts = []
        for point in planned_points(study, spec.search.sampler, spec.search.seeds[0]):
            for seed in spec.search.seeds:
                (count,) = set(gradient_evaluations(study.config(point, seed), BATCHES[study.dataset]))
                counts.append(count)
        result[study.cell] = counts
    return result


@pytest.mark.parametrize("preset", ["paper", "extended"])
def test_random_search_is_counted_exactly(preset):
    spec = sweep(space={"preset": preset, "tune": ["update", "optimizer"]})
    expected = one_by_one(spec)
    planned = plan(spec, BATCHES, gradient_evaluations)
    assert [cell.cell for cell in planned.cells] == list(expected)
    for cell in planned.cells:
        counts = expected[cell.cell]
        assert cell.trials == len(counts) == 2 * cell.configurations
        assert cell.gradient_evaluations == Count(10 * sum(counts), 10 * sum(counts))
        assert cell.gradient_evaluations.exact
        assert cell.gradient_evaluations_per_epoch == Count(min(counts), max(counts))
    assert planned.trials == sum(map(len, expected.values()))
    assert (
        planned.gradient_evaluations.low == planned.gradient_evaluations.high == 10 * sum(map(sum, expected.values()))
    )


def test_a_grid_is_counted_exactly():
    spec = sweep(space={"preset": "paper", "tune": ["update"]}, search={"sampler": "grid", "trials": 10})
    cells = plan(spec, BATCHES, gradient_evaluations).cells
    assert [cell.configurations for cell in cells] == [1, 3, 4, 10] * 2
    assert [cell.gradient_evaluations.low for cell in cells[4:]] == [580, 3 * 780, 4 * 1160, 10 * 870]


def test_an_adaptive_sampler_is_counted_as_a_range():
    spec = sweep(updates=["mirror_gradient", "sam"], search={"sampler": "tpe", "trials": 6})
    mirror_gradient, sam = plan(spec, BATCHES, gradient_evaluations).cells[2:]
    assert mirror_gradient.gradient_evaluations_per_epoch == Count(58 + 8, 2 * 58)
    assert mirror_gradient.gradient_evaluations == Count(6 * 10 * 66, 6 * 10 * 116)
    assert not mirror_gradient.gradient_evaluations.exact
    assert sam.gradient_evaluations == Count(6 * 10 * 116, 6 * 10 * 116)


def test_an_adaptive_sampler_of_a_choice_is_counted_between_its_cheapest_and_dearest_value():
    narrow = {"update.beta": {"kind": "choice", "values": [5, 2, 3]}}
    spec = sweep(updates=["mirror_gradient"], search={"sampler": "tpe"}, space={"narrow": narrow})
    cell = plan(spec, BATCHES, gradient_evaluations).cells[1]
    assert cell.gradient_evaluations_per_epoch == Count(58 + 12, 58 + 29)


def test_a_choice_and_a_number_that_both_cost_are_taken_together():
    narrow = {"update.pairing": {"kind": "choice", "values": ["consecutive", "independent"]}}
    spec = sweep(updates=["bsam_plus"], search={"sampler": "tpe"}, space={"tune": ["update"], "narrow": narrow})
    cell = plan(spec, BATCHES, gradient_evaluations).cells[1]
    assert cell.gradient_evaluations_per_epoch == Count(87, 174)


def test_an_objective_that_costs_more_once_it_is_warm_is_summed_over_epochs():
    """Ten epochs of 58 batches; three or six of them before the loss costs two."""
    axes = {"model": ["vbpr"], "objective": ["amr"], "update": ["mirror_gradient"]}
    narrow = {
        "objective.warmup_epochs": {"kind": "int", "low": 3, "high": 6},
        "update.beta": {"kind": "int", "low": 1, "high": 2},
    }
    spec = sweep(axes=axes, space={"tune": [], "narrow": narrow}, search={"sampler": "tpe", "trials": 4})
    cell = plan(spec, BATCHES, gradient_evaluations).cells[1]
    assert cell.gradient_evaluations_per_epoch == Count(87, 2 * 116)
    assert cell.gradient_evaluations == Count(4 * 87 * (6 + 2 * 4), 4 * 116 * (3 + 2 * 7))
    grid = sweep(axes=axes, space={"tune": [], "narrow": narrow}, search={"sampler": "grid", "trials": 8})
    exact = plan(grid, BATCHES, gradient_evaluations).cells[1].gradient_evaluations
    assert exact.low == exact.high == sum((87 + 116) * (warm + 2 * (10 - warm)) for warm in (3, 4, 5, 6))


def test_a_configuration_is_asked_for_in_full():
    asked = []
    spec = sweep(updates=["bsam_plus"], space={"tune": [], "fix": {"update.rho": 0.5}})
    plan(spec, BATCHES, lambda config, batches: asked.append((dict(config), batches)) or [1])
    (study, _) = studies(spec)
    assert asked[0] == (study.config({"update.rho": 0.5}, 1), 8)


def test_protocols_are_counted_over_the_configurations_that_may_be_best():
    spec = sweep(updates=["mirror_gradient", "sam"], search={"sampler": "tpe", "trials": 6})
    runs = [
        ProtocolRuns("baby/vbpr/plain/mirror_gradient/adam", "robustness", trainings=6, batches=58),
        ProtocolRuns("baby/vbpr/plain/sam/adam", "generalisation", trainings=10, batches=60),
    ]
    planned = plan(spec, BATCHES, gradient_evaluations, runs)
    assert [each.gradient_evaluations for each in planned.protocols] == [
        Count(6 * 10 * 66, 6 * 10 * 116),
        Count(12_000, 12_000),
    ]
    assert [each.validations for each in planned.protocols] == [6 * 4, 10 * 4]
    assert planned.protocol_trainings == 16
    assert planned.protocol_gradient_evaluations == Count(3_960 + 12_000, 6_960 + 12_000)
    assert planned.trials == plan(spec, BATCHES, gradient_evaluations).trials
    with_evidence = predict(planned, {"baby/vbpr/plain/sam/adam": TIMING}, concurrency=1).protocols
    fixed = 10 * 2.0 + 40 * 0.5
    assert with_evidence[0] is None
    assert with_evidence[1] == Estimate(fixed + 120.0, fixed + 240.0, fixed + 600.0)
    assert predict(planned, {"baby/vbpr/plain/sam/adam": TIMING}, concurrency=1).protocols_wall_s is None
    known = predict(planned, dict.fromkeys([run.cell for run in runs], TIMING), concurrency=2)
    assert known.protocols_wall_s is not None and None not in known.protocols
    assert known.protocols_wall_s.mid == pytest.approx(sum(each.mid for each in known.protocols) / 2)
    assert predict(plan(spec, BATCHES, gradient_evaluations), {}, concurrency=2).protocols_wall_s is None


def test_the_best_of_known_points_is_one_of_them():
    fix = {"kind": "choice", "values": [2, 58]}
    spec = sweep(updates=["mirror_gradient"], space={"tune": [], "narrow": {"update.beta": fix}})
    runs = [ProtocolRuns("baby/vbpr/plain/mirror_gradient/adam", "landscape", trainings=1, batches=58)]
    (found,) = plan(spec, BATCHES, gradient_evaluations, runs).protocols
    assert found.gradient_evaluations == Count(590, 870)


def test_a_cell_says_what_is_tuned_in_it():
    descent, mirror_gradient, _, bsam_plus = plan(sweep(), BATCHES, gradient_evaluations).cells[:4]
    assert descent.tuned == ("optimizer.learning_rate",)
    assert mirror_gradient.tuned == ("update.alpha2_ratio", "update.beta", "optimizer.learning_rate")
    assert len(bsam_plus.tuned) == 4
    assert bsam_plus.space_size is None


def test_the_last_epoch_is_validated_too():
    assert {cell.validations for cell in plan(sweep(), BATCHES, gradient_evaluations).cells} == {6 * 2 * 4}


TIMING = CellTiming(setup_s=2.0, gradient_evaluation_s=Estimate(0.01, 0.02, 0.05), evaluation_s=0.5)


def every_cell(planned, timing=TIMING):
    return {cell.cell: timing for cell in planned.cells}


def test_a_cells_seconds_are_set_up_validations_and_gradient_evaluations():
    planned = plan(sweep(updates=["sam"]), BATCHES, gradient_evaluations)
    seconds = predict(planned, every_cell(planned), concurrency=4).cells["baby/vbpr/plain/sam/adam"]
    fixed, count = 12 * 2.0 + 48 * 0.5, 12 * 10 * 116
    assert seconds == Estimate(fixed + count * 0.01, fixed + count * 0.02, fixed + count * 0.05)


def test_one_trial_at_a_time_takes_the_sum_of_all():
    planned = plan(sweep(), BATCHES, gradient_evaluations)
    prediction = predict(planned, every_cell(planned), concurrency=1)
    assert prediction.wall_s == prediction.trial_s
    total = sum(seconds.mid for seconds in prediction.cells.values())
    assert prediction.trial_s.mid == pytest.approx(total)


def test_more_slots_than_trials_take_as_long_as_the_longest_trial():
    planned = plan(sweep(updates=["sam"]), BATCHES, gradient_evaluations)
    prediction = predict(planned, every_cell(planned), concurrency=1000)
    assert prediction.wall_s.low == pytest.approx(2.0 + 4 * 0.5 + 10 * 116 * 0.01)
    assert prediction.wall_s.mid == pytest.approx(2.0 + 4 * 0.5 + 10 * 116 * 0.02)


def test_a_cell_without_evidence_leaves_the_sweep_without_a_prediction():
    planned = plan(sweep(updates=["sam"]), BATCHES, gradient_evaluations)
    prediction = predict(planned, {"baby/vbpr/plain/sam/adam": TIMING}, concurrency=2)
    assert prediction.cells["synthetic/vbpr/plain/sam/adam"] is None
    assert prediction.cells["baby/vbpr/plain/sam/adam"] is not None
    assert (prediction.trial_s, prediction.wall_s) == (None, None)


def test_a_prediction_needs_a_slot():
    with pytest.raises(ValueError, match=r"`concurrency >= 1` must hold, but got 0"):
        predict(plan(sweep(), BATCHES, gradient_evaluations), {}, concurrency=0)


def makespan(durations, slots):
    """When the last trial ends if each starts on the slot that is free first."""
    free = [0.0] * slots
    for duration in durations:
        free.sort()
        free[0] += duration
    return max(free)


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_whatever_the_order_of_trials_the_sweep_ends_between_low_and_high(concurrency, random):
    spec = sweep()
    planned = plan(spec, BATCHES, gradient_evaluations)
    prediction = predict(planned, every_cell(planned), concurrency)
    fixed = 2.0 + 4 * 0.5
    counts = [10 * count for counts in one_by_one(spec).values() for count in counts]
    random.shuffle(counts)
    assert prediction.wall_s.low <= makespan([fixed + count * 0.01 for count in counts], concurrency) * (1 + 1e-9)
    assert makespan([fixed + count * 0.05 for count in counts], concurrency) <= prediction.wall_s.high * (1 + 1e-9)
    assert prediction.wall_s.low <= prediction.wall_s.mid <= prediction.wall_s.high


def test_trials_of_an_adaptive_sampler_end_between_low_and_high_too():
    spec = sweep(updates=["mirror_gradient"], search={"sampler": "tpe", "trials": 6})
    planned = plan(spec, BATCHES, gradient_evaluations)
    wall = predict(planned, every_cell(planned), concurrency=3).wall_s
    cheapest = [4 + 10 * (n + math.ceil(n / 8)) * 0.01 for n in BATCHES.values() for _ in range(6)]
    dearest = [4 + 10 * 2 * n * 0.05 for n in BATCHES.values() for _ in range(6)]
    assert wall.low <= makespan(cheapest, 3)
    assert makespan(dearest, 3) <= wall.high


EARLY = {"max_epochs": 10, "validate_every": 3, "early_validation": {"epochs": 7, "users": 5}}


def test_estimates_are_counted_among_the_validations_and_take_their_own_time():
    runs = [ProtocolRuns("baby/vbpr/plain/sam/adam", "generalisation", trainings=10, batches=60)]
    planned = plan(sweep(updates=["sam"], train=EARLY), BATCHES, gradient_evaluations, runs)
    assert [(each.validations, each.estimates) for each in planned.cells] == [(12 * 4, 12 * 2)] * 2
    assert [(each.validations, each.estimates) for each in planned.protocols] == [(10 * 4, 10 * 2)]
    timing = CellTiming(setup_s=2.0, gradient_evaluation_s=Estimate(0.0, 0.0, 0.0), evaluation_s=0.5, estimate_s=0.125)
    prediction = predict(planned, every_cell(planned, timing), concurrency=1000)
    assert prediction.cells["baby/vbpr/plain/sam/adam"].mid == 12 * (2.0 + 2 * 0.5 + 2 * 0.125)
    assert prediction.protocols[0].mid == 10 * (2.0 + 2 * 0.5 + 2 * 0.125)
    assert prediction.wall_s.mid == 2.0 + 2 * 0.5 + 2 * 0.125


def test_without_early_validations_nothing_is_an_estimate():
    assert {cell.estimates for cell in plan(sweep(), BATCHES, gradient_evaluations).cells} == {0}
