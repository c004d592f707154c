"""A comparison or a convergence on a terminal: the tables and sentences of its page, as text."""

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from search.comparison import Comparison
from search.convergence_curves import Convergence
from search.report.comparison_tables import (
    cheapest_table,
    equal_budgets_table,
    results_table,
    told_first,
)
from search.report.convergence_page import milestones_table
from search.report.tables import Table


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the answers for a reader in a hurry, then what they rest on; names are never read as markup.

    Verdicts on pairs that are neither told apart nor with the base arm are left to the page, and so are other tables.
    """
    for task, rows in comparison.answers.groupby("task", sort=False):
        console.print(Text(str(task), style="bold"))
        for question, answer in zip(rows["question"], rows["answer"], strict=True):
            console.print(Text.assemble((f"{question}: ", "bold"), answer))
    console.print(Text(comparison.budget_statement))
    for table in (cheapest_table, equal_budgets_table, results_table):
        console.print(_rich(table(comparison)))
    shown, others = told_first(comparison)
    for sentence in (comparison.summary, *filter(None, [comparison.ranking]), *shown):
        console.print(Text(sentence))
    if others:
        rest = "1 more pair that is" if len(others) == 1 else f"{len(others)} more pairs that are"
        console.print(Text(f"{rest} not told apart {'is' if len(others) == 1 else 'are'} in verdicts.csv."))
    for note in comparison.notes:
        console.print(Text(f"Note: {note}"))


def print_convergence(found: Convergence, console: Console) -> None:
    """Prints where each arm reached its best score and shares of it, and the notes; names are never read as markup."""
    console.print(_rich(milestones_table(found)))
    for note in found.notes:
        console.print(Text(f"Note: {note}"))


def _rich(table: Table) -> RichTable:
    result = RichTable(title=Text(table.caption), title_justify="left")
    for column in table.columns:
        result.add_column(Text(column.title), justify="right" if column.kind == "number" else "left")
    for row in table.rows:
        result.add_row(*map(Text, row))
    return result
