"""Stages are pure, randomness is named: read off the source, so that a new model is held to it by existing."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from trainables.data.bundle import DataBundle
from trainables.models import MODELS
from trainables.models.base import Recommender
from trainables.seeding import torch_stream
from trainables.types import Batch

STAGES = ("fuse", "extract", "loss", "scorer", "distilled")
PACKAGES = ("trainables", "search", "spaces")
SOURCES = [path for package in PACKAGES for path in Path(__file__).parents[2].joinpath(package).rglob("*.py")]
FORBIDDEN = ("torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "np.random.seed", "random.seed")


def helpers(model: type[Recommender], stage: str) -> Iterator[ast.FunctionDef]:
    """The stage's syntax tree, and those of the model's own methods that it reaches."""
    seen, queue = set(), [stage]
    while queue:
        name = queue.pop()
        method = inspect.getattr_static(model, name, None)
        if name in seen or not inspect.isfunction(method) or not method.__module__.startswith("trainables.models"):
            continue
        seen.add(name)
        tree = ast.parse(textwrap.dedent(inspect.getsource(method))).body[0]
        assert isinstance(tree, ast.FunctionDef)
        yield tree
        queue += [
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        ]


def targets(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield from node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            yield node.target


def written_names(tree: ast.AST) -> set[str]:
    """Names whose attributes or items are assigned to."""
    names = set()
    for target in targets(tree):
        for node in ast.walk(target):
            if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.value, ast.Name):
                names.add(node.value.id)
    return names


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_writes_neither_to_the_model_nor_to_its_arguments(name: str, stage: str) -> None:
    for tree in helpers(MODELS[name], stage):
        arguments = {argument.arg for argument in tree.args.args}
        assert not written_names(tree) & arguments, f"{name}.{tree.name} line {tree.lineno}"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_draws_nothing_but_dropout(name: str, stage: str) -> None:
    draws = (
        "rand",
        "randn",
        "randint",
        "randperm",
        "bernoulli",
        "multinomial",
        "normal",
        "manual_seed",
        "rand_like",
        "randn_like",
    )
    for tree in helpers(MODELS[name], stage):
        called = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not called & set(draws), f"{name}.{tree.name}"


@pytest.mark.parametrize("name", MODELS)
def test_running_the_stages_leaves_model_and_batch_as_they_were(name: str, toy: DataBundle) -> None:
    config = MODELS[name].Config(**({"knn_k": 3} if name == "freedom" else {}))
    model = MODELS[name](config, toy, torch_stream(0, "init"))
    columns = [torch.from_numpy(column[:10].copy()) for column in (toy.train.users, toy.train.items, toy.train.items)]
    batch = Batch(columns[0], columns[1], columns[2][:, None])
    before = {key: value for key, value in vars(model).items() if not key.startswith("_")}
    kept = [value.clone() for value in (*model.state_dict().values(), batch.users, batch.positives, batch.negatives)]
    for mode in (True, False):
        hidden = model.train(mode).extract(model.fuse())
        model.loss(hidden, batch), model.score(hidden, batch.users), model.distilled(hidden, batch, 4)
    after = {key: value for key, value in vars(model).items() if not key.startswith("_")}
    assert before.keys() - {"training"} == after.keys() - {"training"}
    assert all(before[key] is after[key] for key in before.keys() - {"training"})
    now = (*model.state_dict().values(), batch.users, batch.positives, batch.negatives)
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(Path(__file__).parents[2])))
def test_nobody_seeds_a_global_generator(path: Path) -> None:
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    # The closure's replay, inside fork_rng, is the one exception (design: style.md, rule 13).
    allowed = {"torch.manual_seed"} if path.name == "trainer.py" else set()
    assert not (set(calls) & set(FORBIDDEN)) - allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(Path(__file__).parents[2])))
def test_only_confirmations_may_open_the_test_split(path: Path) -> None:
    opens = "open_test_split" in path.read_text()
    assert not opens or path.name in ("confirm.py", "catalog.py")


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not {path.stem for path in SOURCES} & {"utils", "helpers", "common", "misc"}
