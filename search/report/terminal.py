"""A comparison or a convergence on a terminal: the tables and sentences of its page, as text."""

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from search.comparison import Comparison
from search.convergence_curves import Convergence
from search.report.comparison_page import cheapest_table, results_table, targets_table
from search.report.convergence_page import milestones_table
from search.report.tables import Table


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints the budget, the tables, one verdict per pair of arms and the notes; names are never read as markup."""
    console.print(Text(comparison.budget_statement))
    for table in (results_table(comparison), targets_table(comparison), cheapest_table(comparison)):
        console.print(_rich(table))
    for sentence in (*comparison.answers, comparison.summary, *comparison.verdicts["sentence"]):
        console.print(Text(sentence))
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
