"""What confirmations show: means on fresh seeds, paired tests against the base arm, and what selection flattered."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from search import wording
from search.arms import BASE_ARM
from search.report.frames import Readable, SweepFrames, read_frames
from search.significance import LEVEL, holm
from search.tuning_cost import FloatArray, Mode

CONFIDENCE = 0.95
POWER = 0.8
RELEVANT = 0.01
"""The relative difference that a comparison should be able to show."""


@dataclass(frozen=True)
class Confirmation:
    """What one configuration came to on fresh seeds, in the sweep's goal metric.

    Attributes:
        task: data set and model.
        seeds: retrainings with a value; `failed` diverged.
        valid: mean on validation; NaN, as what follows, where all diverged.
        test: mean on the test split, with its standard deviation and its 95 % interval (Student's t; NaN for one seed).
        highest: the best test value of a single seed, and `highest_seed` that seed.
        searched: the score that the search chose it by.
        optimism: `searched` minus `valid`, turned so that positive is what the search promised too much.
        candidates: configurations that it was chosen from.
    """

    task: str
    cell: str
    arm: str
    trial: str
    seeds: int
    failed: int
    valid: float
    test: float
    deviation: float
    low: float
    high: float
    highest: float
    highest_seed: int | None
    searched: float
    optimism: float
    candidates: int


@dataclass(frozen=True)
class Pair:
    """One arm's chosen configuration against the base arm's, seed by seed on the test split.

    Attributes:
        seeds: those with a value of both.
        difference: mean of arm minus base; positive is better only where the goal is to maximise.
        relative: the same over the base's mean.
        low, high: its 95 % interval; NaN for one seed.
        effect: Cohen's d of the differences (mean over standard deviation); infinite where all are equal and not 0.
        p_value: of the paired t test; `p_signed_ranks` of Wilcoxon's test beside it; `p_holm` corrected over all pairs.
        needed: seeds that a difference of RELEVANT takes at 5 % and 80 % power, at this spread.
        better: whether the arm is told to be better (True) or worse (False); None where they cannot be told apart.
    """

    task: str
    arm: str
    base: str
    seeds: int
    difference: float
    relative: float
    low: float
    high: float
    effect: float
    p_value: float
    p_signed_ranks: float
    p_holm: float
    needed: float
    better: bool | None
    sentence: str

    @property
    def underpowered(self) -> bool:
        """Whether fewer seeds were run than a difference of RELEVANT takes."""
        return not self.seeds >= self.needed


@dataclass(frozen=True)
class Claim:
    """What a choice on the test split would have claimed for a task, beside what the choice on validation came to.

    Attributes:
        claimed: the best test value of all configurations and seeds that were retrained, `of` so many.
        honest: mean test value, over its seeds, of the configuration that validation chose.
    """

    task: str
    claimed: float
    claimed_trial: str
    claimed_seed: int
    of: int
    honest: float
    honest_trial: str
    sentence: str


@dataclass(frozen=True)
class Confirmed:
    """All that the confirmations of a sweep show.

    Attributes:
        unsealed: per data set, configurations of this sweep that were judged on its test split.
        notes: what was left out, one sentence each.
    """

    sweep: str
    metric: str
    mode: Mode
    configurations: tuple[Confirmation, ...]
    pairs: tuple[Pair, ...]
    claims: tuple[Claim, ...]
    unsealed: dict[str, int]
    notes: tuple[str, ...]


def confirmed(store: Readable, sweep: str) -> Confirmed:
    """Return what the confirmations of a stored sweep show; without any, empty tuples.

    Of several confirmed configurations of a cell, the one that the search ranked first stands for its arm.

    Raises:
        StoreError: the store does not hold the sweep.
    """
    return judge(read_frames(store, sweep))


def judge(frames: SweepFrames) -> Confirmed:
    """Return what the confirmations among these frames show, as `confirmed`."""
    rows = frames.confirmations[frames.confirmations["metric"] == frames.metric]
    values = {
        str(split): part.pivot(index="seed", columns="trial", values="value").astype(float)
        for split, part in rows.groupby("split")
    }
    test, valid = values.get("test", pd.DataFrame()), values.get("valid", pd.DataFrame())
    known = set(frames.trials["trial"])
    lost = [str(trial) for trial in test.columns if trial not in known]  # their rows were in a part that is damaged
    every = [_confirmation(frames, str(trial), test, valid, rows) for trial in test.columns if trial in known]
    ranked = sorted(every, key=lambda each: (each.task, each.cell, -_turn(frames, each.searched)))
    chosen = [each for each in ranked if each is next(other for other in ranked if other.cell == each.cell)]
    found = list(_pairs(frames, chosen, test))
    adjusted = holm([pair.p_value for pair in found if not math.isnan(pair.p_value)])
    corrected = iter(adjusted.tolist())
    pairs = [pair if math.isnan(pair.p_value) else _told(frames, pair, next(corrected)) for pair in found]
    return Confirmed(
        sweep=frames.name,
        metric=frames.metric,
        mode=frames.mode,
        configurations=tuple(ranked),
        pairs=tuple(pairs),
        claims=tuple(_claims(frames, chosen, ranked)),
        unsealed={name: sum(each.task.startswith(f"{name}/") for each in ranked) for name in frames.data_sets},
        notes=(*_notes(chosen), *(f"{trial} was confirmed, but the store has lost what it was." for trial in lost)),
    )


def _turn(frames: SweepFrames, value: float) -> float:
    """The value, turned so that larger is better."""
    return value if frames.better_is_larger else -value


def _confirmation(
    frames: SweepFrames, trial: str, test: pd.DataFrame, valid: pd.DataFrame, rows: pd.DataFrame
) -> Confirmation:
    row = frames.trials[frames.trials["trial"] == trial].iloc[0]
    alike = frames.scored[(frames.scored["cell"] == row["cell"])]
    searched = float(alike.loc[alike["configuration"] == row["configuration"], "score"].mean())
    known = test[trial].dropna()
    on_valid = float(valid[trial].mean()) if trial in valid else math.nan
    mean, deviation, low, high = mean_interval(known.to_numpy())
    turned = known if frames.better_is_larger else -known
    highest = None if known.empty else int(known.index[int(np.argmax(turned.to_numpy()))])
    return Confirmation(
        task=f"{row['dataset']}/{row['model']}",
        cell=str(row["cell"]),
        arm=str(row["arm"]),
        trial=trial,
        seeds=len(known),
        failed=int(rows[(rows["trial"] == trial) & (rows["split"] == "test")]["value"].isna().sum()),
        valid=on_valid,
        test=mean,
        deviation=deviation,
        low=low,
        high=high,
        highest=math.nan if highest is None else float(known[highest]),
        highest_seed=highest,
        searched=searched,
        optimism=_turn(frames, searched - on_valid),
        candidates=int(rows.loc[rows["trial"] == trial, "candidates"].max()),
    )


def mean_interval(values: FloatArray, confidence: float = CONFIDENCE) -> tuple[float, float, float, float]:
    """Return mean, standard deviation and the ends of Student's interval; NaN where there are too few values."""
    n = len(values)
    if n == 0:
        return (math.nan,) * 4
    mean = float(np.mean(values))
    if n == 1:
        return mean, math.nan, math.nan, math.nan
    deviation = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * deviation / math.sqrt(n)
    return mean, deviation, mean - half, mean + half


def needed_seeds(deviation: float, difference: float) -> float:
    """Return the pairs of seeds with which the paired t test shows a difference at 5 % in 80 % of cases, at least 2.

    strategies.md §12.8 has (z_.975 + z_.8)² σ_d² / Δ², by the normal distribution; from there on the power of Student's
    test, a noncentral t, is asked, which takes one to three seeds more.
    """
    if math.isnan(deviation) or difference == 0:
        return math.inf
    if deviation == 0:
        return 2.0
    effect = abs(difference) / deviation
    z = float(stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER))
    seeds = max(2, math.ceil((z / effect) ** 2))
    while _power(seeds, effect) < POWER:
        seeds += 1
    return float(seeds)


def _power(seeds: int, effect: float) -> float:
    """How often the two-sided paired t test shows an effect (mean over standard deviation)."""
    critical, centre = stats.t.ppf(1 - LEVEL / 2, seeds - 1), effect * math.sqrt(seeds)
    return float(stats.nct.sf(critical, seeds - 1, centre) + stats.nct.cdf(-critical, seeds - 1, centre))


def _pairs(frames: SweepFrames, chosen: Sequence[Confirmation], test: pd.DataFrame) -> Iterator[Pair]:
    """Each arm against the base arm of its task (and optimizer, where the sweep has several), not yet corrected."""
    for each in chosen:
        name, _, optimizer = each.arm.partition("/")
        base_arm = f"{BASE_ARM}/{optimizer}" if optimizer else BASE_ARM
        base = next((other for other in chosen if (other.task, other.arm) == (each.task, base_arm)), None)
        if base is not None and name != BASE_ARM:
            yield _pair(each, base, test)


def _pair(each: Confirmation, base: Confirmation, test: pd.DataFrame) -> Pair:
    both = test[[each.trial, base.trial]].dropna()
    differences = (both[each.trial] - both[base.trial]).to_numpy()
    mean, deviation, low, high = mean_interval(differences)
    level = float(both[base.trial].mean()) if len(both) else math.nan
    p_value, p_signed_ranks = _p_values(differences)
    return Pair(
        task=each.task,
        arm=each.arm,
        base=base.arm,
        seeds=len(both),
        difference=mean,
        relative=mean / abs(level) if level else math.nan,
        low=low,
        high=high,
        effect=mean / deviation if deviation else math.copysign(math.inf, mean) if mean else 0.0,
        p_value=p_value,
        p_signed_ranks=p_signed_ranks,
        p_holm=math.nan,
        needed=needed_seeds(deviation, RELEVANT * abs(level)),
        better=None,
        sentence=f"{each.task}: {each.arm} and {base.arm} cannot be tested with fewer than two seeds.",
    )


def _p_values(differences: FloatArray) -> tuple[float, float]:
    """Two-sided p of the paired t test and of Wilcoxon's signed ranks; NaN for fewer than two pairs."""
    if len(differences) < 2:
        return math.nan, math.nan
    if not np.ptp(differences):
        # Without any spread there is no t; a difference that never varies is as sure as signed ranks say.
        p = 1.0 if differences[0] == 0 else float(stats.wilcoxon(differences).pvalue)
        return p, p
    n = len(differences)
    # By hand, as scipy warns where differences are nearly alike.
    t = float(np.mean(differences)) / (float(np.std(differences, ddof=1)) / math.sqrt(n))
    return 2 * float(stats.t.sf(abs(t), n - 1)), float(stats.wilcoxon(differences[differences != 0]).pvalue)


def _told(frames: SweepFrames, pair: Pair, p_holm: float) -> Pair:
    """The pair with its verdict."""
    better = _turn(frames, pair.difference) > 0 if p_holm < LEVEL else None
    amount = f"{wording.score(abs(pair.difference))} ({wording.share(abs(pair.relative))})"
    evidence = f"p = {p_holm:.2g}, paired t test over {pair.seeds} seeds, Holm-corrected"
    if better is not None:
        verdict = f"{pair.arm} is {'better' if better else 'worse'} than {pair.base} on test, by {amount}; {evidence}."
    else:
        verdict = f"{pair.arm} and {pair.base} cannot be told apart on test: {amount} lie between them; {evidence}."
        if pair.underpowered:
            verdict += f" Underpowered: a difference of {RELEVANT:.0%} takes {wording.count(pair.needed)} seeds."
        else:
            verdict += f" So many seeds would show a difference of {RELEVANT:.0%} in four of five cases."
    return replace(pair, p_holm=p_holm, better=better, sentence=f"{pair.task}: {verdict}")


def _claims(frames: SweepFrames, chosen: Sequence[Confirmation], every: Sequence[Confirmation]) -> Iterator[Claim]:
    for task in dict.fromkeys(each.task for each in chosen):
        known = [each for each in every if each.task == task and each.highest_seed is not None]
        if not known:
            continue
        best = max(known, key=lambda each: _turn(frames, each.highest))
        honest = max((each for each in chosen if each.task == task), key=lambda each: _turn(frames, each.searched))
        of, seed = sum(each.seeds for each in known), best.highest_seed
        assert seed is not None
        gap = wording.signed_score(best.highest - honest.test)
        sentence = (
            f"{task}: whoever picks on test would have claimed {wording.score(best.highest)} ({best.arm}, seed {seed}, "
            f"the best of {of} test values); what validation chose ({honest.arm}) has {wording.score(honest.test)} on "
            f"average: {gap} for the same models."
        )
        yield Claim(task, best.highest, best.trial, seed, of, honest.test, honest.trial, sentence)


def _notes(chosen: Sequence[Confirmation]) -> Iterator[str]:
    for task in dict.fromkeys(each.task for each in chosen):
        arms = {each.arm.partition("/")[0] for each in chosen if each.task == task}
        if BASE_ARM not in arms:
            yield f"{task}: the base arm {BASE_ARM} was not confirmed, so no arm can be compared with it."
    failed = [each for each in chosen if each.failed]
    for each in failed:
        yield f"{each.trial} diverged with {wording.plural(each.failed, 'fresh seed')}, which its means leave out."
