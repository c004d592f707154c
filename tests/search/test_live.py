"""The live view of a running sweep."""

import io
import threading

from rich.console import Console

from search.live import LiveView
from search.spec import load


def test_on_a_terminal_the_table_has_no_thread_before_there_is_a_trial():
    """The driver forks in between, which it does not where there are threads."""
    before = threading.active_count()
    screen = Console(file=io.StringIO(), force_terminal=True, width=160)
    with LiveView(screen, load("quickstart")) as view:
        assert threading.active_count() == before
        view.say("a sentence")
        assert threading.active_count() == before
        view.update({})
        assert threading.active_count() == before + 1
        view.update({})
    assert "synthetic/vbpr" in screen.file.getvalue()
