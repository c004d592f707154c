"""The checks beside a start: in a process without PyTorch, as a driver's is, they run in a fork; else at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.checking import beside, checks_beside
from search.errors import SpecError
from search.spec import parse, studies
from trainables.data.bundle import DataBundle
from trainables.errors import ModelError

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, signal, sys, threading, time
from search.checking import beside, checks_beside
from search.errors import SearchError, SpecError
driver = os.getpid()
{body}
print("torch" in sys.modules)
"""

SYNTHETIC = """
from search.datasets import load_data
from search.spec import parse, studies
spec = parse({sections!r}, "test")
bundles = load_data(spec)
try:
    with checks_beside(spec, studies(spec), bundles) as verdict:
        print("begun")
        verdict()
        print("sound")
except ValueError as error:
    print(type(error).__name__, error)
"""


def run(body: str) -> list[str]:
    """What a fresh interpreter prints that does not know PyTorch yet."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM.format(body=body)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def sections(**fixed: object) -> dict[str, object]:
    return {
        "name": "test",
        "data": {"names": ["synthetic"]},
        "axes": {"model": ["freedom"], "update": ["sam"]},
        "space": {"fix": fixed},
    }


def test_a_driver_learns_that_its_cells_can_be_trained_and_stays_without_pytorch():
    assert run(SYNTHETIC.format(sections=sections())) == ["begun", "sound", "False"]


@pytest.mark.parametrize(
    ("fixed", "kind", "says"),
    [({"model.knn_k": 99_999}, "ModelError", "an item graph must have"), ({"update.rho": -1.0}, "SpecError", "rho")],
)
def test_a_mistake_is_the_same_error_as_where_it_is_found_at_once(fixed, kind, says):
    begun, error, torch = run(SYNTHETIC.format(sections=sections(**fixed)))
    assert (begun, torch) == ("begun", "False")
    assert error.startswith(f"{kind} ") and says in error


def test_the_check_goes_on_beside_what_the_driver_does():
    body = """
reading, writing = os.pipe()
with beside(lambda: os.read(reading, 1)) as verdict:
    os.write(writing, b"x")  # the check waits for what is done only after it began
    verdict()
print(os.getpid() == driver)
"""
    assert run(body) == ["True", "False"]


@pytest.mark.slow
def test_an_error_that_is_no_users_keeps_its_traceback():
    body = """
try:
    with beside(lambda: {}["a key"]) as verdict:
        verdict()
except RuntimeError as error:
    print("Traceback" in str(error) and "KeyError: 'a key'" in str(error))
"""
    assert run(body) == ["True", "False"]


def test_a_check_that_is_killed_is_one_sentence():
    body = """
try:
    with beside(lambda: os.kill(os.getpid(), signal.SIGKILL)) as verdict:
        verdict()
except SearchError as error:
    print(error)
"""
    sentence, torch = run(body)
    assert "must live to its end, but was killed" in sentence and torch == "False"


@pytest.mark.slow
def test_nothing_of_a_check_is_left_where_the_start_fails():
    body = """
import multiprocessing
try:
    with beside(lambda: time.sleep(600)):
        [process] = multiprocessing.active_children()
        raise SearchError("no cluster answers")
except SearchError as error:
    print(error)
try:
    os.kill(process.pid, 0)
except ProcessLookupError:
    print("gone")
"""
    assert run(body) == ["no cluster answers", "gone", "False"]


@pytest.mark.slow
def test_ctrl_c_reaches_the_driver_alone():
    body = """
os.setpgid(0, 0)
reading, writing = os.pipe()
heard = []
signal.signal(signal.SIGINT, lambda *known: heard.append(os.getpid()))
def check():
    os.write(writing, b"x")
    time.sleep(0.5)
with beside(check) as verdict:
    os.read(reading, 1)
    os.killpg(0, signal.SIGINT)
    verdict()
print(heard == [driver])
"""
    assert run(body) == ["True", "False"]


def test_a_process_with_threads_is_not_forked():
    body = """
over = threading.Event()
threading.Thread(target=over.wait).start()
seen = []
with beside(lambda: seen.append(os.getpid())) as verdict:
    verdict()
over.set()
print(seen == [driver])
"""
    assert run(body) == ["True", "False"]


def test_where_pytorch_is_there_already_mistakes_are_found_before_anything_starts(toy: DataBundle):
    process = []
    with beside(lambda: process.append(os.getpid())) as verdict:
        assert process == [os.getpid()]
        verdict()
    given = sections(**{"model.knn_k": 99_999}) | {"data": {"names": ["toy"]}}
    spec = parse(given, "test")
    with pytest.raises(ModelError, match="an item graph must have"), checks_beside(spec, studies(spec), {"toy": toy}):
        pytest.fail("it had begun")
    spec = parse(given | {"space": {"fix": {"update.rho": -1.0}}}, "test")
    with pytest.raises(SpecError, match="rho"), checks_beside(spec, studies(spec), {"toy": toy}):
        pytest.fail("it had begun")
