"""The text of an item: what is joined, in which order, how long."""

import pytest

from trainables.data.preparation.texts import TEXT_LIMIT, join_text


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (
            ["Cup", "Acme", [["Baby", "Feeding"], ["Baby", "Cups"]], "Holds 2."],
            "Cup. Acme. Baby, Feeding, Cups. Holds 2",
        ),
        (["Tom &amp; Jerry&#39;s", None, [], ""], "Tom & Jerry's"),
        (["  two\n\twords\u00a0here ", " ", ["", " . "]], "two words here"),
        ([None, 7, True, {"key": "x"}], "7"),
        ([], ""),
        (["half \ud83d of a pair"], "half  of a pair"),
        (["Ends in a stop.", "Next"], "Ends in a stop. Next"),
    ],
)
def test_parts_are_cleaned_and_joined_in_order(parts, text):
    assert join_text(parts) == text


def test_a_long_text_is_cut():
    assert len(join_text(["word " * 1000])) <= TEXT_LIMIT < 5000
    assert join_text(["x" * 5000]) == "x" * TEXT_LIMIT
