"""Confirmations on a terminal."""

import math

from rich.console import Console
from rich.table import Table

from search import wording
from search.report.confirmed import Confirmed
from search.report.tables import pairs_table


def print_confirmed(screen: Console, found: Confirmed) -> None:
    """Prints what a sweep's confirmations show: means, tests against the base arm, and what selection flattered."""
    if not found.configurations:
        return
    screen.print(_configurations(found))
    if found.pairs:
        screen.print(_pairs(found))
    sentences = [pair.sentence for pair in found.pairs]
    sentences += [f"Selection on test, which nobody should do: {claim.sentence}" for claim in found.claims]
    sentences += found.notes
    for name, count in found.unsealed.items():
        if count:
            opened = wording.plural(count, "configuration")
            sentences.append(f"The test split of {name} has been opened for {opened} of this sweep.")
    for sentence in sentences:
        screen.print(sentence, highlight=False, markup=False, soft_wrap=True)


def _configurations(found: Confirmed) -> Table:
    table = Table(title=f"{found.metric} of {found.sweep}'s chosen configurations on fresh seeds")
    for heading in ("task", "arm", "trial"):
        table.add_column(heading, overflow="fold")
    for heading in ("seeds", "search", "valid", "optimism", "test", "95 % interval", "chosen from"):
        table.add_column(heading, justify="right")
    for each in found.configurations:
        seeds = f"{each.seeds}" + (f" ({each.failed} diverged)" if each.failed else "")
        optimism = wording.NONE if math.isnan(each.optimism) else wording.signed_score(each.optimism)
        scores = [wording.score(each.searched), wording.score(each.valid), optimism]
        test = [wording.with_deviation(each.test, each.deviation), wording.span(each.low, each.high)]
        table.add_row(each.task, each.arm, each.trial, seeds, *scores, *test, wording.count(each.candidates))
    return table


PAIR_COLUMNS = ("seeds", "difference", "relative", "95 % interval", "d", "p (Holm)", "p (ranks)", "seeds for 1 %")


def _pairs(found: Confirmed) -> Table:
    table = Table(title=f"{found.metric} on test, seed by seed, against the base arm")
    for heading in ("task", "arm", "base"):
        table.add_column(heading, overflow="fold")
    for heading in PAIR_COLUMNS:
        table.add_column(heading, justify="right")
    for row in pairs_table(found).rows:
        table.add_row(*row)
    return table
