"""What the terms of a comparison's page mean, and what the scores of each task are held against."""

from search import wording
from search.comparison import COST_UNITS, Comparison

_TERMS = (
    (
        "80\u00a0% interval",
        "of the expected cost, right at least that often however few configurations came so close (Clopper and "
        "Pearson's, of their share; mean costs and the best known score are taken as these trials have them)",
    ),
    (
        "Draws",
        "every arm's trials drawn again with replacement: a lead that hangs on one trial is lost in more than a third "
        "of them, and an arm that never came so close cannot win one",
    ),
    (
        "Verdicts",
        "whether an arm's name says anything of its scores: the difference at the common budget, against those when "
        "the scores of each task are dealt out anew to its arms; stricter than the draws, in which each arm keeps its "
        "own",
    ),
    (
        "Equal budgets",
        "the least that an arm with something to tune spent in that unit, and as many configurations as it buys at an "
        "arm's mean cost; for published grids (the preset paper) as many as the arm's own holds of what the sweep "
        "tunes, but drawn from this sweep's space and never more than were tried",
    ),
    (
        "Dotted",
        "beyond a third of an arm's trials, where the estimate leans on a handful of them; never extrapolated",
    ),
    ("Worse than base", "share of configurations with a score worse than the base score, with its Wilson interval"),
    (
        "Nine in ten reach",
        "the score that 90 % of the arm's configurations reach or beat; failed ones count as the worst",
    ),
    (
        "Best over own default",
        "how much the best configuration gains over the arm's default one, where that was run",
    ),
    (
        "Area under regret",
        "mean share of the known gain that is still missing, over the logarithm of the budget; above 1 where the "
        "expected best is worse than the base",
    ),
)


def terms(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the terms of the page with what they mean, and the base and reference of each task."""
    unit = COST_UNITS[comparison.cost]
    best = f"mean of the best validation score over random orders of the arm's trials, at a budget in {unit}"
    scores = [
        (
            f"Scores of {task['task']}",
            f"{task['metric']} ({'larger' if task['mode'] == 'max' else 'smaller'} is better); base "
            f"{wording.score(task['base'])} ({task['base_source']}), tuned base {wording.score(task['tuned_base'])}, "
            f"reference {wording.score(task['reference'])} (best of all arms, by {task['reference_arm']})",
        )
        for task in comparison.tasks.to_dict("records")
    ]
    return [("Expected best", best), *_TERMS, *scores]
