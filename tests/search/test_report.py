"""The report of a sweep: what it says, what it must never say, and that odd sweeps make a page all the same."""

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.comparison import compare
from search.errors import StoreError
from search.names import trial_name
from search.report import best, verdict, write_comparison, write_report
from search.report.figures import best_so_far
from search.report.frames import read_frames
from search.report.page import MAX_BYTES
from search.report.protocol import protocol
from search.spec import load, studies

NewSweep = Callable[..., Any]
DESCENT, SAM = "lfm2k/vbpr/plain/descent/adam", "lfm2k/vbpr/plain/sam/adam"
EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """What a browser would see of a page: texts, scripts, styles and the addresses of everything it would load."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.policy = ""
        self.visible = ""
        self._inside: list[tuple[str, dict[str, str | None]]] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "data", "action")]
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""
        if tag in ("script", "style"):
            self._inside.append((tag, values))

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[-1][0]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.visible += data
        elif self._inside[-1][0] == "script":
            self.scripts.append((self._inside[-1][1], data))

    @property
    def figures(self) -> str:
        """The data of all figures."""
        return "".join(text for attributes, text in self.scripts if attributes.get("type") == "application/json")


@pytest.fixture(scope="module")
def full_folder(full_sweep: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the report and the comparison of the full sweep."""
    folder = tmp_path_factory.mktemp("report")
    write_report(full_sweep.store, full_sweep.name, folder)
    write_comparison(compare(full_sweep.store, [full_sweep.name]), folder)
    return folder


def report(writer: Any, folder: Path) -> Page:
    return Page(write_report(writer.store, writer.name, folder))


def found(writer: Any) -> Any:
    frames = read_frames(writer.store, writer.name)
    return best.best_configurations(frames).set_index("cell")


def _winner(writer: Any) -> Any:
    trials = writer.store.frame("trials", writer.name)
    return trials.loc[trials["best_score"].idxmax()]


def test_the_page_holds_every_section_in_order(full_folder: Path) -> None:
    page = Page(full_folder / "report.html")
    headings = re.findall(r'<h2 id="(\w+)">', page.source)
    assert headings[:6] == ["best", "rule", "history", "curves", "convergence", "parameters"]
    assert headings[6:10] == ["slices", "importances", "pareto", "timeline"]
    assert headings[10:] == ["endings", "confirmations", "protocol", "provenance"]
    assert re.findall(r'<a href="#(\w+)">', page.source) == headings
    for text in (
        "bsam_plus",
        "180 candidates in 10 cells, from 222 trials",
        "0123456789abcdef",
        "ab" * 32,
        "NVIDIA H200",
    ):
        assert text in page.visible
    assert "recsweep launch best.yaml" in page.visible


def test_the_verdict_is_three_sentences_with_counts_winner_and_caution(full_sweep: Any) -> None:
    frames = read_frames(full_sweep.store, full_sweep.name)
    sentences = verdict.verdict(frames, best.best_configurations(frames))
    assert "222 trials in 10 cells (180 finished, 30 pruned, 10 diverged, 1 failed and 1 lost)" in sentences.searched
    winner = _winner(full_sweep)
    assert f"on lfm2k, by freedom under {winner['update']} and adam (trial {winner['trial']})" in sentences.found
    assert "ahead of the best of plain descent with the same model" in sentences.trust
    assert "the ones to quote" in sentences.trust


def test_an_unconfirmed_winner_of_one_seed_comes_with_a_warning(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(DESCENT, 0.3)
    writer.trial(SAM, 0.2)
    frames = read_frames(writer.store, writer.name)
    trust = verdict.verdict(frames, best.best_configurations(frames)).trust
    assert trust.startswith("It is 0.1000 (+50.0\u00a0%) ahead of the runner-up among 2 candidates")
    assert "every configuration ran with one seed" in trust


def test_no_test_score_stands_anywhere_but_under_confirmations(new_sweep: NewSweep, tmp_path: Path) -> None:
    writer = new_sweep()
    trial = writer.trial(SAM, 0.31)
    writer.confirm(trial, 0.776655)
    page = report(writer, tmp_path)
    before, after = page.source.split('<h2 id="confirmations">')
    section, _, rest = after.partition("</section>")
    assert "0.7657 to 0.7677" in section
    assert "0.76" not in before.replace(page.figures, "") + rest.partition("<script>")[0]
    assert "0.76" not in page.figures


def test_only_the_goal_metric_is_drawn(full_folder: Path) -> None:
    assert "0.98765" not in Page(full_folder / "report.html").figures


def test_the_policy_allows_exactly_the_scripts_that_stand_in_the_page(full_folder: Path) -> None:
    page = Page(full_folder / "report.html")
    executed = [text for attributes, text in page.scripts if "type" not in attributes]
    digests = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in executed}
    assert len(executed) == 2
    assert set(re.findall(r"'sha256-([^']+)'", page.policy)) == digests
    assert "default-src 'none'" in page.policy
    assert "unsafe-eval" not in page.policy and "http" not in page.policy


@pytest.mark.parametrize("name", ["report.html", "comparison.html"])
def test_a_page_is_small_and_loads_nothing(full_folder: Path, name: str) -> None:
    page = Page(full_folder / name)
    assert len(page.source.encode()) < MAX_BYTES
    assert page.source.count("plotly.js v") == 1
    assert all(address.startswith("#") for address in page.loads)
    own = page.source
    for _, text in page.scripts:
        own = own.replace(text, "")
    assert not re.search(r"https?:|url\(|@import", own)
    assert not {"img", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)


def test_names_are_never_markup(new_sweep: NewSweep, tmp_path: Path) -> None:
    search = {"sampler": EVIL, "trials": 1, "seeds": [1], "scheduler": {"kind": "fifo"}}
    writer = new_sweep(stored={"search": search, "name": EVIL})
    columns = {"cell": f"{EVIL}/a", "dataset": EVIL, "model": EVIL, "update": f"{EVIL}|`b`", "device": EVIL}
    for place in range(3):
        writer.trial(SAM, 0.1 + 0.01 * place, trial=f"{EVIL}{place}")
    writer.add("trials", [_changed(writer, f"{EVIL}{place}", columns) for place in range(3)])
    writer.trial(DESCENT, None, status="failed", error=EVIL)
    page = report(writer, tmp_path)
    assert EVIL in page.visible
    assert len([tag for tag in page.tags if tag == "script"]) == len(page.scripts)
    assert "alert('x')</script>" not in page.source
    assert "<" not in page.figures
    # Plotly reads markup in labels, so what it is given is escaped once more.
    assert "&lt;script&gt;" in page.figures.replace("\\u003c", "<")
    assert "<script" not in (tmp_path / "report.md").read_text()


def _changed(writer: Any, trial: str, columns: dict[str, str]) -> dict[str, object]:
    rows = writer.store.table("trials", writer.name).to_pylist()
    row = next(row for row in rows if row["trial"] == trial)
    return {**{name: value for name, value in row.items() if name != "written"}, **columns}


def test_best_yaml_is_a_sweep_of_one_trial_that_is_the_best_one(full_sweep: Any, full_folder: Path) -> None:
    spec = load(full_folder / "best.yaml")
    (study,) = studies(spec)
    assert (study.trials, study.space.tuned(), spec.search.seeds) == (1, (), (999,))
    (point,) = study.space.grid()
    assert trial_name(study.config(point, 999)) == _winner(full_sweep)["trial"]


def test_each_data_set_has_a_best_file_of_its_own(new_sweep: NewSweep, tmp_path: Path) -> None:
    writer = new_sweep(data={"names": ["sports", "baby"], "root": "/data"})
    for dataset, score in (("baby", 0.9), ("sports", 0.1)):
        writer.trial(f"{dataset}/vbpr/plain/sam/adam", score)
        writer.trial(f"{dataset}/vbpr/plain/descent/adam", score / 2)
    page = report(writer, tmp_path)
    names = {path.name: yaml.safe_load(path.read_text())["data"]["names"] for path in tmp_path.glob("*.yaml")}
    assert names == {"best.yaml": ["sports"], "best-sports.yaml": ["sports"], "best-baby.yaml": ["baby"]}
    assert "0.1000 on sports" in page.visible and "0.9000 on baby" in page.visible


def test_seeds_are_averaged_before_the_best_is_chosen(new_sweep: NewSweep) -> None:
    writer = new_sweep(search={"sampler": "random", "trials": 2, "seeds": [1, 2]})
    lucky, steady = ({"optimizer.learning_rate": rate} for rate in (0.001, 0.002))
    for point, scores in ((lucky, (0.9, 0.1)), (steady, (0.6, 0.62))):
        for seed, score in zip((1, 2), scores, strict=True):
            writer.trial(DESCENT, score, seed=seed, point=point)
    row = found(writer).loc[DESCENT]
    assert row["score"] == pytest.approx(0.61)
    assert (row["seeds"], row["candidates"], row["evaluated"]) == ((1, 2), 2, 4)
    assert row["seed_deviation"] == pytest.approx(0.02 / 2**0.5)


def test_a_configuration_with_a_failed_seed_is_no_candidate(new_sweep: NewSweep) -> None:
    writer = new_sweep(search={"sampler": "random", "trials": 2, "seeds": [1, 2]})
    for seed, score in ((1, 0.9), (2, None)):
        writer.trial(
            DESCENT,
            score,
            seed=seed,
            point={"optimizer.learning_rate": 0.001},
            status="failed" if score is None else "finished",
        )
    for seed in (1, 2):
        writer.trial(DESCENT, 0.5, seed=seed, point={"optimizer.learning_rate": 0.002})
    row = found(writer).loc[DESCENT]
    assert (row["score"], row["candidates"]) == (0.5, 1)


def test_of_equal_scores_the_earlier_trial_wins(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    first = writer.trial(SAM, 0.3)
    writer.trial(SAM, 0.3)
    assert found(writer).loc[SAM, "trial"] == first


@pytest.mark.parametrize("status", ["pruned", "stopped", "failed", "diverged", "lost", "running"])
def test_only_finished_trials_can_be_best(new_sweep: NewSweep, status: str) -> None:
    writer = new_sweep()
    finished = writer.trial(SAM, 0.2)
    writer.trial(SAM, 0.9, status=status)
    assert found(writer).loc[SAM, "trial"] == finished


def test_the_smallest_score_is_best_where_the_goal_says_so(new_sweep: NewSweep, tmp_path: Path) -> None:
    writer = new_sweep(goal={"metric": "recall@20", "mode": "min"})
    writer.trial(SAM, 0.5)
    smallest = writer.trial(SAM, 0.2)
    writer.trial(DESCENT, 0.3)
    page = report(writer, tmp_path)
    assert f"0.2000 on lfm2k, by vbpr under sam and adam (trial {smallest})" in page.visible
    assert "smaller is better" in page.visible
    frames = read_frames(writer.store, writer.name)
    steps = best_so_far(frames, frames.trials[frames.trials["arm"] == "sam"], "gradient_evaluations")
    assert steps[["spent", "best"]].to_numpy().tolist() == [[3000, 0.5], [6000, 0.2]]


def test_the_cost_of_failed_and_pruned_trials_moves_the_best_so_far_to_the_right(new_sweep: NewSweep) -> None:
    writer = new_sweep()
    writer.trial(SAM, None, status="diverged", epochs=1)
    writer.trial(SAM, 0.9, status="pruned", epochs=2)
    writer.trial(SAM, 0.3, epochs=3)
    frames = read_frames(writer.store, writer.name)
    steps = best_so_far(frames, frames.trials, "gradient_evaluations")
    assert steps[["spent", "best"]].to_numpy().tolist() == [[600, 0.3]]


def test_a_sweep_without_trials_makes_a_page_without_scripts(new_sweep: NewSweep, tmp_path: Path) -> None:
    page = report(new_sweep(), tmp_path)
    assert "none of its trials has" in page.visible and "there is no best configuration" in page.visible
    assert page.scripts == []
    assert "script-src 'none'" in page.policy
    assert not (tmp_path / "best.yaml").exists()


def test_a_sweep_of_failures_names_the_most_frequent_error_and_leaves_no_old_best_yaml(
    new_sweep: NewSweep, tmp_path: Path
) -> None:
    (tmp_path / "best.yaml").write_text("name: of another sweep")
    writer = new_sweep()
    writer.trial(SAM, None, status="failed", error="OSError: disk full\nTraceback")
    writer.trial(SAM, None, status="failed", error="OSError: disk full\nelsewhere")
    writer.trial(DESCENT, None, status="diverged", error="Diverged: NaN")
    page = report(writer, tmp_path)
    assert "of 3 trials with one, is: OSError: disk full" in page.visible
    assert "no trial finished with a score" in page.visible
    assert not (tmp_path / "best.yaml").exists()


def test_a_finished_trial_without_a_score_is_counted_but_never_best(new_sweep: NewSweep, tmp_path: Path) -> None:
    writer = new_sweep()
    writer.trial(SAM, None)
    writer.trial(DESCENT, float("inf"))
    page = report(writer, tmp_path)
    assert "No trial has finished with a validation score, so" in page.visible


def test_one_trial_makes_a_whole_report(new_sweep: NewSweep, tmp_path: Path) -> None:
    writer = new_sweep()
    writer.trial(SAM, 0.25, epochs=1)
    page = report(writer, tmp_path)
    assert "It had no rival" in page.visible
    assert {"history", "curves", "parameters"} <= set(re.findall(r'<h2 id="(\w+)">', page.source))


def test_costs_that_were_not_measured_are_left_out(new_sweep: NewSweep, tmp_path: Path) -> None:
    writer = new_sweep()
    unmeasured = {"device_seconds": None, "gradient_evaluations": None, "device": None, "best_epoch": None}
    writer.trial(SAM, 0.25, **unmeasured)
    page = report(writer, tmp_path)
    assert '<h2 id="history">' not in page.source
    assert "not recorded" in page.visible


def test_a_running_sweep_is_reported_as_far_as_it_is(new_sweep: NewSweep, tmp_path: Path) -> None:
    writer = new_sweep()
    writer.trial(SAM, 0.1, status="running", ended=None)
    page = report(writer, tmp_path)
    assert "No trial has finished with a validation score so far" in page.visible


def test_the_markdown_has_the_same_winner_and_whole_tables(full_sweep: Any, full_folder: Path) -> None:
    text = (full_folder / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| freedom | ")]
    assert len(rows) == 5 and len({line.count("|") for line in rows}) == 1
    assert f"(trial {_winner(full_sweep)['trial']})" in text


def test_the_function_for_notebooks_returns_one_row_per_cell(full_sweep: Any) -> None:
    frame = best.best(full_sweep.store, full_sweep.name)
    assert len(frame) == 10
    assert frame["score"].notna().all()


def test_an_unknown_sweep_is_refused(new_sweep: NewSweep, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="'nope' must have been started"):
        write_report(new_sweep().store, "nope", tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(new_sweep: NewSweep, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = new_sweep()
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(writer.store, writer.name, tmp_path / "file" / "folder")


def test_no_unfinished_file_is_left_beside_the_report(full_folder: Path) -> None:
    names = sorted(path.name for path in full_folder.iterdir())
    assert names == ["best.yaml", "comparison", "comparison.html", "report.html", "report.md"]


def test_the_comparison_page_says_budget_verdicts_and_assumptions(full_sweep: Any, tmp_path: Path) -> None:
    result = compare(full_sweep.store, [full_sweep.name], ["sam"])
    page = Page(write_comparison(result, tmp_path))
    for text in (result.budget_statement, *result.answers["answer"], *result.verdicts["sentence"], *result.notes):
        assert text in page.visible
    assert "recsweep compare mg-sam-bsam --arms sam --cost gradient_evaluations" in page.visible


def test_the_protocol_card_says_what_early_validations_were(new_sweep: NewSweep) -> None:
    train = {"max_epochs": 200, "early_validation": {"epochs": 10, "users": 2048, "precision": "bf16"}}
    writer = new_sweep(train=train)
    name = writer.trial(DESCENT, 0.2)
    writer.trial(DESCENT, None, status="pruned", epochs=5)
    frames = read_frames(writer.store, writer.name)
    said = dict(protocol(frames))["Early validations"]
    assert said.startswith("up to epoch 10 only estimates, on a random sample of 2,048 users, the same for all trials;")
    assert "rounded to bfloat16" in said and "full one" not in said
    assert best.best_configurations(frames).set_index("cell").loc[DESCENT, "trial"] == name


@pytest.mark.parametrize(
    ("early", "said"),
    [
        ({"epochs": 3, "precision": "bf16"}, "up to epoch 3 only estimates, on all users; the factors of their scores"),
        ({"epochs": 3, "users": 9}, "same for all trials; with no more users than that the validation is a full one."),
    ],
)
def test_the_protocol_card_names_only_what_was_made_cheaper(
    early: dict[str, Any], said: str, new_sweep: NewSweep
) -> None:
    writer = new_sweep(train={"max_epochs": 200, "early_validation": early})
    assert said in dict(protocol(read_frames(writer.store, writer.name)))["Early validations"]


def test_without_early_validations_the_card_does_not_speak_of_any(full_sweep: Any) -> None:
    frames = read_frames(full_sweep.store, full_sweep.name)
    assert "Early validations" not in dict(protocol(frames))
    # Sweeps of earlier versions have no such key.
    frames.spec["train"].pop("early_validation")  # type: ignore[attr-defined]
    assert "Early validations" not in dict(protocol(frames))
