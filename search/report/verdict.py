"""A sweep in three sentences: what was searched, what came out, and how far to trust it."""

import math
from collections import Counter
from dataclasses import dataclass

import pandas as pd

from search import wording
from search.arms import BASE_ARM
from search.report.best import best_of_data_sets, rank_configurations
from search.report.frames import SweepFrames
from search.report.tables import ENDINGS


@dataclass(frozen=True)
class SweepVerdict:
    """The three sentences."""

    searched: str
    found: str
    trust: str


def verdict(frames: SweepFrames, best: pd.DataFrame) -> SweepVerdict:
    """Return the sentences for a sweep, given what `best_configurations` returned for it."""
    winners = best_of_data_sets(frames, best)
    if not winners:
        return SweepVerdict(_searched(frames, best), _nothing_found(frames), _why_nothing(frames))
    return SweepVerdict(_searched(frames, best), _found(frames, winners), _trust(frames, best, winners))


def _searched(frames: SweepFrames, best: pd.DataFrame) -> str:
    trials = frames.trials
    if trials.empty:
        return f"The sweep {frames.name} has started, but none of its trials has."
    counts = trials["status"].value_counts()
    endings = wording.listing([f"{wording.count(counts[each])} {each}" for each in ENDINGS if each in counts])
    passes = wording.count(best["gradient_evaluations"].sum())
    time = wording.duration(best["device_seconds"].sum())
    return (
        f"The sweep {frames.name} ran {wording.plural(len(trials), 'trial')} in {wording.plural(len(best), 'cell')} "
        f"({endings}), for {passes} gradient evaluations and {time} of device time."
    )


def _nothing_found(frames: SweepFrames) -> str:
    running = (frames.trials["status"] == "running").any() if len(frames.trials) else True
    so_far = " so far" if running else ""
    return f"No trial has finished with a validation score{so_far}, so there is no best configuration."


def _why_nothing(frames: SweepFrames) -> str:
    errors = frames.trials["error"].dropna() if len(frames.trials) else pd.Series(dtype=object)
    if errors.empty:
        return "No trial has reported an error."
    lines = [next(iter(str(error).strip().splitlines()), "(empty)") for error in errors]
    most = Counter(lines).most_common(1)[0][0]
    return f"The most frequent error, of {wording.plural(len(errors), 'trial')} with one, is: {most}"


def _found(frames: SweepFrames, winners: dict[str, pd.Series]) -> str:
    parts = [f"{wording.score(row['score'])} on {name}, by {_recipe(row)}" for name, row in winners.items()]
    so_far = " so far" if (frames.trials["status"] == "running").any() else ""
    return f"The best validation {frames.metric}{so_far} is {'; '.join(parts)}."


def _recipe(row: pd.Series) -> str:
    objective = "" if row["objective"] == "plain" else f" with {row['objective']}"
    return f"{row['model']}{objective} under {row['update']} and {row['optimizer']} (trial {row['trial']})"


def _trust(frames: SweepFrames, best: pd.DataFrame, winners: dict[str, pd.Series]) -> str:
    several = len(winners) > 1
    parts = [_lead(frames, best, row) + (f" on {name}" if several else "") for name, row in winners.items()]
    return f"{wording.capitalised('; '.join(parts))}; {_caution(frames, winners)}."


def _lead(frames: SweepFrames, best: pd.DataFrame, winner: pd.Series) -> str:
    """Return how far the winner is ahead of its rival: plain descent of the same model, else the next configuration."""
    base = best[
        (best["dataset"] == winner["dataset"])
        & (best["model"] == winner["model"])
        & (best["objective"] == "plain")
        & (best["update"] == BASE_ARM)
        & (best["optimizer"] == winner["optimizer"])
        & best["score"].notna()
    ]
    if len(base) and base.iloc[0]["cell"] != winner["cell"]:
        return (
            f"it {_ahead(frames, winner['score'], base.iloc[0]['score'])} the best of plain descent with the same model"
        )
    rivals = rank_all(frames, str(winner["dataset"]))
    if len(rivals) < 2:
        return "it had no rival"
    return (
        f"it {_ahead(frames, winner['score'], rivals[1])} the runner-up among {wording.count(len(rivals))} candidates"
    )


def rank_all(frames: SweepFrames, dataset: str) -> list[float]:
    """Return the scores of all candidates of a data set, best first."""
    scored = frames.scored[frames.scored["dataset"] == dataset]
    scores = [rank_configurations(frames, trials)["score"] for _, trials in scored.groupby("cell")]
    return sorted((float(score) for part in scores for score in part), reverse=frames.better_is_larger)


def _ahead(frames: SweepFrames, score: float, other: float) -> str:
    lead = score - other if frames.better_is_larger else other - score
    relative = f" ({wording.signed_share(lead / abs(other))})" if other else ""
    if lead == 0:
        return "only equals"
    return f"is {wording.score(abs(lead))}{relative} {'ahead of' if lead > 0 else 'behind'}"


def _caution(frames: SweepFrames, winners: dict[str, pd.Series]) -> str:
    confirmed = frames.confirmations
    if len(confirmed) and confirmed["trial"].isin([row["trial"] for row in winners.values()]).any():
        return "it was retrained on fresh seeds, see Confirmations, and those numbers are the ones to quote"
    deviations = [row["seed_deviation"] for row in winners.values() if not math.isnan(row["seed_deviation"])]
    advice = f"recsweep confirm {frames.name} retrains it on fresh seeds; do that before quoting it"
    if not deviations:
        return f"every configuration ran with one seed, so part of any lead may be luck: {advice}"
    spread = wording.listing([wording.score(each) for each in deviations])
    return f"its seeds deviate by {spread}, and a maximum over candidates flatters: {advice}"
