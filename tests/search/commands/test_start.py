"""What every command pays before it does anything."""

import subprocess
import sys

HEAVY = {"duckdb", "numpy", "optuna", "pandas", "plotly", "pyarrow", "ray", "scipy", "torch"}


def test_the_program_starts_without_libraries_that_its_command_may_not_need():
    # The parent of a running sweep stays that small, and `--help` answers at once.
    code = f"import sys, search.cli; print(sorted({HEAVY} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
