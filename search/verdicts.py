"""One sentence per pair of arms: which is better at the common budget, or that the trials cannot tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from search.arm_results import Yardstick, affordable, filled_scores
from search.arms import Task
from search.significance import LEVEL, TASKS_FOR_SIGNED_RANKS, Duel, holm, permutation_p_value, signed_rank_p_value
from search.tuning_cost import turned

PERMUTATION = "permutation test"
SIGNED_RANK = "Wilcoxon signed-rank test"


@dataclass(frozen=True)
class Verdict:
    """What the trials say about two arms.

    Attributes:
        tasks: number of tasks that both arms have.
        difference: expected best of what the common budget buys, first arm minus second, positive where the first is
            better: in the metric's units for one task, else as a share of the base score (mean, or median for signed
            ranks).
        p_value, p_holm: two-sided, before and after Holm's correction over all pairs.
        winner: None where they cannot be told apart.
    """

    first: str
    second: str
    tasks: int
    difference: float
    p_value: float
    p_holm: float
    test: str
    winner: str | None
    sentence: str


@dataclass(frozen=True)
class _Finding:
    first: str
    second: str
    metrics: tuple[str, ...]
    difference: float
    p_value: float
    test: str


def judge(
    tasks: Sequence[Task], yardsticks: Mapping[str, Yardstick], arms: Sequence[str], seed: int
) -> tuple[Verdict, ...]:
    """Return one verdict per pair of arms that share a task.

    Up to five tasks are tested by permutation inside each task, from six on by signed ranks over tasks.
    """
    findings = [
        _compare_pair([task for task in tasks if {*pair} <= task.arms.keys()], yardsticks, pair, seed)
        for pair in combinations(arms, 2)
        if any({*pair} <= task.arms.keys() for task in tasks)
    ]
    corrected = holm([finding.p_value for finding in findings])
    return tuple(_verdict(finding, float(p_holm)) for finding, p_holm in zip(findings, corrected, strict=True))


def _compare_pair(
    tasks: Sequence[Task], yardsticks: Mapping[str, Yardstick], pair: tuple[str, str], seed: int
) -> _Finding:
    duels = [_duel(task, yardsticks[task.name], pair, relative=len(tasks) > 1) for task in tasks]
    differences = [duel.difference for duel in duels]
    metrics = tuple(task.metric for task in tasks)
    if len(duels) >= TASKS_FOR_SIGNED_RANKS:
        return _Finding(*pair, metrics, float(np.median(differences)), signed_rank_p_value(differences), SIGNED_RANK)
    p_value = permutation_p_value(duels, np.random.default_rng(seed))
    return _Finding(*pair, metrics, float(np.mean(differences)), p_value, PERMUTATION)


def _duel(task: Task, yardstick: Yardstick, pair: tuple[str, str], *, relative: bool) -> Duel:
    first, second = (task.arms[name] for name in pair)
    return Duel(
        first=turned(filled_scores(first, yardstick), task.mode),
        second=turned(filled_scores(second, yardstick), task.mode),
        first_trials=affordable(first, yardstick.budget),
        second_trials=affordable(second, yardstick.budget),
        scale=(abs(yardstick.base) or 1.0) if relative else 1.0,
    )


def _verdict(finding: _Finding, p_holm: float) -> Verdict:
    winner = None
    if p_holm <= LEVEL and finding.difference != 0:
        winner = finding.first if finding.difference > 0 else finding.second
    return Verdict(
        first=finding.first,
        second=finding.second,
        tasks=len(finding.metrics),
        difference=finding.difference,
        p_value=finding.p_value,
        p_holm=p_holm,
        test=finding.test,
        winner=winner,
        sentence=_sentence(finding, winner, p_holm),
    )


def _sentence(finding: _Finding, winner: str | None, p_holm: float) -> str:
    size = abs(finding.difference)
    one_task = len(finding.metrics) == 1
    amount = f"{size:.4f} {finding.metrics[0]}" if one_task else f"{100 * size:.1f}\u00a0% of the base score"
    p_text = "p < 0.001" if p_holm < 0.001 else f"p = {p_holm:.3f}" if p_holm < 0.1 else f"p = {p_holm:.2f}"
    evidence = f"{p_text}, {finding.test} on {len(finding.metrics)} task{'' if one_task else 's'}, Holm-corrected"
    ahead, behind = (finding.first, finding.second) if finding.difference >= 0 else (finding.second, finding.first)
    if winner is not None:
        return f"{ahead} is better than {behind} at this budget, by {amount} in expectation ({evidence})."
    lead = f"{ahead} leads by {amount}" if finding.difference else "they are equal"
    return f"{finding.first} and {finding.second} cannot be told apart at this budget: {lead} ({evidence})."


def summarise(verdicts: Sequence[Verdict]) -> str:
    """Return in one sentence how many pairs of arms could be told apart."""
    told_apart = [verdict for verdict in verdicts if verdict.winner is not None]
    if len(verdicts) == 1:
        return f"The two arms {'can' if told_apart else 'cannot'} be told apart at this budget."
    if not told_apart:
        return "No two of the arms can be told apart at this budget."
    return f"{len(told_apart)} of {len(verdicts)} pairs of arms can be told apart at this budget."
