"""Wrong input through the command line: exit code 2, one sentence that says what and where, and nothing is lost."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from search.cli import run
from search.schema import VIEWS
from search.spec import parse, studies
from search.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROWS = [f"{user}\t{(user + step) % 6}\t{max(0, step - 2)}" for user in range(6) for step in range(5)]
"""Six users and six items; each user has three training rows, one for validation and one for the test."""


def write_data(folder: Path, rows: list[str], features: np.ndarray | None = None) -> None:
    folder.mkdir(parents=True)
    (folder / f"{folder.name}.inter").write_text("\n".join(["userID\titemID\tx_label", *rows]) + "\n")
    if features is not None:
        np.save(folder / "image_feat.npy", features)


class Desk:
    """A user's folder with data sets, a sweep file and a store that holds results; every command must fail."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self._write_data(folder / "data")
        (folder / "notes.txt").write_text("not a folder")
        self.raw: dict[str, Any] = {
            "name": "kept",
            "data": {"names": ["good"], "root": str(folder / "data")},
            "axes": {"model": ["vbpr"], "update": ["sam"]},
            "space": {"tune": ["update"], "fix": {"model.embedding_size": 4}},
            "search": {"trials": 2},
            "train": {"max_epochs": 1},
        }
        self.store = Store(folder / "store", create=True)
        self._write_results()
        self._before = self._content()

    def _write_data(self, root: Path) -> None:
        features = np.ones((6, 3), np.float32)
        holed = features.copy()
        holed[4, 2] = np.nan
        write_data(root / "good", ROWS, features)
        write_data(root / "bare", ROWS)
        write_data(root / "words", ["bob\t0\t0", *ROWS[1:]], features)
        write_data(root / "short", ROWS, features[:5])
        write_data(root / "holed", ROWS, holed)
        write_data(root / "unvalidated", [row for row in ROWS if not row.endswith("1")], features)

    def _write_results(self) -> None:
        spec = parse(self.raw)
        (study,) = studies(spec)
        axes = {axis: getattr(study, axis) for axis in ("cell", "dataset", "model", "objective", "update", "optimizer")}
        name = {"sweep": "kept", "trial": "vbpr-sam-00000001"}
        at = {"attempt": 1, "started": NOW, "ended": NOW, "seed": 999, "status": "finished", "best_score": 0.5}
        goal = {"config_json": "{}", "metric": "recall@20", "mode": "max"}
        start = {"sweep": "kept", "digest": spec.digest, "spec_json": spec.model_dump_json(), "started": NOW}
        self.store.append("sweeps", [start])
        self.store.append("trials", [name | axes | at | goal])
        self.store.append("params", [name | {"name": "update.rho", "number": 0.1, "tuned": True}])

    def _content(self) -> tuple[Any, ...]:
        """All rows of the store, and every file that is neither in it nor made by a test."""
        rows = {view: self.store.table(view).to_pylist() for view in VIEWS}
        return rows, sorted(path for path in self.folder.rglob("*") if path.suffix != ".yaml")

    def sweep(self, **sections: Any) -> str:
        """Writes the sweep file with other sections and returns its path."""
        (self.folder / "mine.yaml").write_text(yaml.safe_dump(self.raw | sections))
        return "mine.yaml"

    def refuses(self, *arguments: str, store: str = "store") -> str:
        """Runs a command and returns its complaint without "recsweep: ", once all that must hold does."""
        code = run([*arguments, *(["--store", store] if store else [])])
        out, err = self._capsys.readouterr()
        assert code == 2, (out, err)
        assert err.startswith("recsweep: ") and err.endswith("\n") and err.count("\n") == 1, err
        assert "Traceback" not in out + err
        assert self._content() == self._before
        return err.removeprefix("recsweep: ").rstrip("\n")


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name("cache")))
    monkeypatch.delenv("RECSWEEP_STORE", raising=False)
    return Desk(tmp_path, capsys)


RHO = {"kind": "float", "low": 1, "high": 0.1}


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"trian": {}}, "mine.yaml: trian: is not a known key; did you mean 'train'?"),
        (
            {"train": {"max_epoch": 3}},
            "mine.yaml: train.max_epoch: is not a known key; did you mean 'max_epochs'?",
        ),
        (
            {"train": {"max_epochs": "three"}},
            "mine.yaml: train.max_epochs: must be a whole number, but got 'three'",
        ),
        (
            {"train": {"early_validation": {"epochs": 3}}},
            "mine.yaml: train.early_validation: must give users or the precision bf16, as there is nothing to save "
            "otherwise",
        ),
        (
            {"train": {"max_epochs": 3, "early_validation": {"epochs": 3, "users": 5}}},
            "mine.yaml: train: early_validation.epochs must be at least validate_every and less than max_epochs, but "
            "got 3 with validate_every 1 and max_epochs 3",
        ),
        (
            {"train": {"early_validation": {"epochs": 3, "users": 5, "precision": "bf61"}}},
            "mine.yaml: train.early_validation.precision: must be 'float32' or 'bf16', but got 'bf61'; did you mean "
            "'bf16'?",
        ),
        (
            {"train": {"early_validation": {"epochs": 3, "user": 5}}},
            "mine.yaml: train.early_validation.user: is not a known key; did you mean 'users'?",
        ),
        ({"train": {"early_validation": 3}}, "mine.yaml: train.early_validation: must be a mapping, but got 3"),
        ({"search": {"trials": True}}, "mine.yaml: search.trials: must be a whole number, but got True"),
        ({"search": {"seeds": 3}}, "mine.yaml: search.seeds: must be a list, but got 3"),
        (
            {"space": {"narrow": {"update.rho": RHO}}},
            "mine.yaml: space.narrow.update.rho: `low < high` must hold, but got low=1.0, high=0.1",
        ),
        (
            {"axes": {"model": ["vbrp"], "update": ["sam"]}},
            "mine.yaml: axes.model: must be among lightgcn, vbpr, bm3, freedom, mmgcn, grcn, dualgnn, slmrec, dragon, "
            "lgmrec, selfcf, layergcn, ngcf, but got 'vbrp'; did you mean 'vbpr'?",
        ),
        (
            {"space": {"fix": {"update.roh": 1}}},
            "mine.yaml: space.fix.update.roh: must be a hyperparameter of one of the sweep's cells, but none has it; "
            "did you mean 'update.rho'?",
        ),
        (
            {"goal": {"metric": "recal@20"}},
            "mine.yaml: goal.metric: must be recall, ndcg, precision or map, @5, 10, 20 or 50, but got 'recal@20'; "
            "did you mean 'recall@20'?",
        ),
        (
            {"space": {"tune": [], "fix": {"model.embedding_size": 0}}},
            "cell good/vbpr/plain/sam/adam: model.embedding_size: Input should be greater than or equal to 1, "
            "but got 0",
        ),
    ],
)
def test_a_mistake_in_a_sweep_file_is_named_with_file_key_rule_and_value(
    sections: dict[str, Any], sentence: str, desk: Desk
) -> None:
    path = desk.sweep(**sections)
    assert desk.refuses("launch", path) == desk.refuses("plan", path, store="") == sentence


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.maxepochs=3", "train.maxepochs: is not a known key; did you mean 'max_epochs'?"),
        ("train.max_epochs=0", "train.max_epochs: must be at least 1, but got 0"),
        ("train.max_epochs", "must have the form key=value"),
        ("=3", "must have the form key=value"),
        ("axes.update=[bsma]", "axes.update: must be among "),
        ("train=[", "must be valid YAML"),
    ],
)
def test_a_bad_override_is_named_itself(override: str, sentence: str, desk: Desk) -> None:
    said = desk.refuses("launch", desk.sweep(), override)
    assert said.startswith(f"override {override}") and sentence in said.removeprefix(f"override {override}")


def test_a_missing_sweep_is_named_with_the_nearest(desk: Desk) -> None:
    assert desk.refuses("launch", "nowhere.yaml").startswith("nowhere.yaml: must be a readable file, but the system")
    assert desk.refuses("launch", "quickstrat").endswith("but got 'quickstrat'; did you mean 'quickstart'?")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("god", "data set folder {data}/god must exist, but does not (did you mean 'good'?)"),
        ("words", "{data}/words/words.inter, line 2: userID must be an integer, but is 'bob'"),
        ("short", "{data}/short/image_feat.npy must have one row for each of the 6 items, but has 5 rows"),
        (
            "holed",
            "{data}/holed/image_feat.npy must hold only finite float32 numbers, but row 4, column 2 is nan (1 su",
        ),
        ("unvalidated", "{data}/unvalidated/unvalidated.inter: the validation split must hold interactions of users"),
        ("bare", "model VBPR needs modality features, but data set 'bare' has no *_feat.npy"),
    ],
)
def test_broken_data_are_named_with_file_rule_and_place(name: str, sentence: str, desk: Desk) -> None:
    root = str(desk.folder / "data")
    path = desk.sweep(data={"names": ["good", name], "root": root})
    expected = sentence.format(data=root)
    assert desk.refuses("launch", path).startswith(expected)
    assert desk.refuses("plan", path, store="").startswith(expected)
    if name != "bare":
        assert desk.refuses("data", "check", name, "--root", root, store="").startswith(expected)


def test_a_missing_root_is_named(desk: Desk) -> None:
    said = desk.refuses("launch", desk.sweep(data={"names": ["good"], "root": "/nowhere"}))
    assert said == "data set folder /nowhere/good must exist, but neither does /nowhere"
    said = desk.refuses("launch", desk.sweep(data={"names": ["good"]}))
    assert said == "data.root must name the folder that holds data set 'good', but is not set"


def test_more_neighbours_than_items_are_refused_before_a_trial_runs(desk: Desk) -> None:
    path = desk.sweep(axes={"model": ["freedom"], "update": ["sam"]}, space={"tune": [], "fix": {"model.knn_k": 7}})
    assert desk.refuses("launch", path).endswith("must have `1 <= k <= number of items`, but got k=7 for 6 items")


def test_a_store_that_cannot_be_written_is_named_before_anything_runs(desk: Desk) -> None:
    below, itself = str(desk.folder / "notes.txt" / "store"), str(desk.folder / "notes.txt")
    assert desk.refuses("launch", desk.sweep(), store=below).startswith(f"the result store {below} cannot be written")
    said = desk.refuses("launch", desk.sweep(), store=itself)
    assert said == f"the result store must be a folder, but {itself} is a file"


@pytest.mark.parametrize("command", ["status", "best", "report", "compare"])
def test_an_unknown_sweep_is_named_with_the_nearest(command: str, desk: Desk) -> None:
    expected = f"the result store {desk.store.root} has no sweep `kpet`; the nearest is `kept`"
    assert desk.refuses(command, "kpet") == expected
    assert desk.refuses(command, store="nowhere") == f"there is no result store at {desk.folder / 'nowhere'}"


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("drop table trials", "a query must be one SELECT statement, but got DROP"),
        ("select 1; delete from trials", "a query must be one SELECT statement, but got SELECT, DELETE"),
        ("copy (select 1) to 'stolen.csv'", "a query must be one SELECT statement, but got COPY"),
        ("attach 'stolen.db'", "a query must be one SELECT statement, but got ATTACH"),
        ("select * from read_text('/etc/hostname')", "this one calls `read_text`"),
        ("select * from '/etc/hostname'", "the result store has no view `/etc/hostname`"),
        ("select * from trails", "the result store has no view `trails`; the nearest is `trials`"),
        ("select bestscore from trials", 'Referenced column "bestscore" not found'),
        ("selec 1", 'syntax error at or near "selec"'),
        ("select $rho", "the query's parameter $rho needs a value"),
        ("", "a query must be one SELECT statement, but got none"),
    ],
)
def test_hostile_or_invalid_sql_is_refused(sql: str, sentence: str, desk: Desk) -> None:
    assert sentence in desk.refuses("query", sql)


def test_an_unknown_format_is_refused_with_the_known_ones(desk: Desk) -> None:
    formats = "table, csv, json, jsonl, markdown, parquet"
    assert desk.refuses("query", "select 1", "--format", "xml") == f"--format must be one of {formats}, but got 'xml'"
    assert desk.refuses("best", "--format", "xml") == "--format must be table, yaml or json, but got 'xml'"


def test_an_output_that_cannot_be_written_is_named(desk: Desk) -> None:
    said = [desk.refuses(*command, "-o", "notes.txt/out") for command in (["report"], ["query", "select 1"])]
    said.append(desk.refuses("data", "synthesize", "notes.txt/out", store=""))
    assert all("notes.txt/out" in each and "Not a directory" in each for each in said)
    assert "must be the path of a new folder" in desk.refuses("data", "synthesize", ".", store="")


@pytest.mark.parametrize("name", ["../good", "good bad", ""])
def test_a_data_set_is_named_not_pointed_at(name: str, desk: Desk) -> None:
    said = desk.refuses("data", "check", name, "--root", "data", store="")
    assert said.startswith("data set: name: must match pattern") and said.endswith(f"but got {name!r}")


def test_an_unknown_command_or_option_is_named(desk: Desk) -> None:
    said = desk.refuses("lunch", store="")
    assert said == "No such command 'lunch'. Did you mean 'launch'? recsweep --help says what there is"
    said = desk.refuses("launch", "--zz")
    assert said == "No such option: --zz; recsweep launch --help says what there is"
    assert desk.refuses("launch") == "Missing argument 'SWEEP'; recsweep launch --help says what there is"
    said = desk.refuses("data", "check", store="")
    assert said == "Missing argument 'DATASET'; recsweep data check --help says what there is"


@pytest.mark.slow
def test_the_installed_command_refuses_what_only_building_a_model_shows(
    desk: Desk, recsweep: Callable[[list[str]], Any]
) -> None:
    path = desk.sweep(axes={"model": ["freedom"], "update": ["sam"]}, space={"tune": [], "fix": {"model.knn_k": 7}})
    sentence = desk.refuses("launch", path)
    done = recsweep(["launch", path, "--store", "fresh"])
    assert (done.returncode, done.stderr) == (2, f"recsweep: {sentence}\n")
    assert Store(desk.folder / "fresh").table("sweeps").num_rows == 0


def test_the_installed_command_says_and_returns_the_same(desk: Desk, recsweep: Callable[[list[str]], Any]) -> None:
    path = desk.sweep(trian={})
    done = recsweep(["launch", path, "--store", "store"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"recsweep: {desk.refuses('launch', path)}\n"
