"""The command `data synthesize`."""

from pathlib import Path
from typing import NoReturn

import pytest

from search import cli


def test_a_folder_that_is_taken_is_refused_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def draw(*given: object) -> NoReturn:
        pytest.fail("drew a data set for a folder that is taken")

    monkeypatch.setattr("trainables.data.synthetic.synthesize", draw)
    (tmp_path / "notes.txt").write_text("mine")
    assert cli.run(["data", "synthesize", str(tmp_path)]) == 2
    assert "must be written to a new or empty folder" in capsys.readouterr().err
