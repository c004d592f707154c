"""Who may import whom, read from the sources and, for what must stay light, from a fresh interpreter."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("spaces", "trainables", "search")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


@functools.cache
def import_nodes(path: Path, *, with_lazy: bool = True) -> list[ast.Import | ast.ImportFrom]:
    """Return a file's import statements; without the lazy ones, only those that run when the module is imported."""
    found: list[ast.Import | ast.ImportFrom] = []
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif with_lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))
    return found


@functools.cache
def imported(path: Path, *, with_lazy: bool = True) -> set[str]:
    """Return the full names of imported modules; `from a import b` is a.b where that is a module of ours."""
    names: set[str] = set()
    for node in import_nodes(path, with_lazy=with_lazy):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        else:
            module = node.module or ""
            below = {f"{module}.{alias.name}" for alias in node.names} & set(MODULES)
            names.update(below or {module})
    return names


def is_below(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def sources_below(*packages: str) -> list[object]:
    return [pytest.param(path, id=name) for name, path in MODULES.items() if is_below(name, packages)]


def ours(path: Path) -> set[str]:
    return {name for name in imported(path) if is_below(name, PACKAGES)}


def outside(path: Path, *allowed: str) -> set[str]:
    return {name for name in ours(path) if not is_below(name, allowed)}


EVERY_SOURCE = [pytest.param(path, id=name) for name, path in MODULES.items()]


@pytest.mark.parametrize("path", EVERY_SOURCE)
def test_no_import_is_relative(path):
    assert not [node.lineno for node in import_nodes(path) if isinstance(node, ast.ImportFrom) and node.level]


@pytest.mark.parametrize("path", sources_below("spaces"))
def test_spaces_import_only_the_standard_library_and_pydantic(path):
    allowed = {*sys.stdlib_module_names, "pydantic", "spaces"}
    assert not {name for name in imported(path) if name.partition(".")[0] not in allowed}


@pytest.mark.parametrize("path", sources_below("trainables"))
def test_trainables_import_neither_spaces_nor_search(path):
    assert not {name for name in ours(path) if is_below(name, ("spaces", "search"))}


@pytest.mark.parametrize("path", sources_below("trainables"))
def test_ray_is_imported_by_one_module_of_trainables_only(path):
    if module_name(path) != "trainables.trainable":
        assert not {name for name in imported(path) if is_below(name, ("ray",))}


# Inside trainables: what each part may import of ours, beside errors, types, the precision of products and what pays
# on a device, for all.
COMMON = ("trainables.types", "trainables.errors", "trainables.devices", "trainables.precision")
MAY_IMPORT = {
    "trainables.layers": ("trainables.layers",),
    "trainables.models": ("trainables.layers", "trainables.data.bundle", "trainables.models"),
    "trainables.objectives": ("trainables.models.base", "trainables.objectives"),
    "trainables.updates": ("trainables.eager", "trainables.vectors", "trainables.updates"),
    "trainables.evaluation": ("trainables.vectors", "trainables.data.bundle", "trainables.evaluation"),
    "trainables.protocols": (
        *("trainables.config", "trainables.seeding", "trainables.trainer", "trainables.models.base"),
        *("trainables.data", "trainables.evaluation", "trainables.protocols"),
    ),
}
# Pure functions without a model: the divergences that DVIB distils by, and the initialisation of its noise net.
EXCEPTIONS = {
    "trainables.objectives.distillation": {"trainables.layers.divergences"},
    "trainables.objectives.noise": {"trainables.layers.tensors"},
}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        pytest.param(path, allowed, id=name)
        for part, allowed in MAY_IMPORT.items()
        for name, path in MODULES.items()
        if is_below(name, (part,))
    ],
)
def test_parts_of_trainables_import_only_what_the_design_allows(path, allowed):
    assert outside(path, *COMMON, *allowed) == EXCEPTIONS.get(module_name(path), set())


@pytest.mark.parametrize("path", sources_below("trainables"))
def test_protocols_stand_above_the_trainer_and_nobody_below_them_knows_them(path):
    if not is_below(module_name(path), ("trainables.protocols",)):
        assert not {name for name in ours(path) if is_below(name, ("trainables.protocols",))}


@pytest.mark.parametrize("path", sources_below("trainables.updates"))
def test_updates_never_see_a_batch(path):
    names = {
        alias.name
        for node in import_nodes(path)
        if isinstance(node, ast.ImportFrom) and node.module == "trainables.types"
        for alias in node.names
    }
    assert "Batch" not in names
    assert "trainables.types.Batch" not in ast.unparse(ast.parse(path.read_text(encoding="utf-8")))


# Modules that plan, store and report: they answer in a second, on machines without a GPU or a cluster.
LIGHT = (
    *("errors", "names", "yaml_loader", "spec", "sections", "spec_errors", "overrides", "study", "points", "plan"),
    *("schema", "store", "query", "report"),
    *("tuning_cost", "arms", "arm_results", "assumptions", "comparison", "significance", "verdicts", "answers"),
    *("cost_to_target", "equal_budgets", "profiles", "ranking", "sensitivity", "transfer"),
)
# Settings of protocols, which sweep files hold, and what a plan counts by them.
LIGHT_PROTOCOLS = tuple(f"trainables.protocols.{part}" for part in ("config", "measurement", "selection"))
LIGHT_MODULES = [
    name
    for name in MODULES
    if is_below(name, (*(f"search.{part}" for part in LIGHT), "spaces")) or name in LIGHT_PROTOCOLS
]
# What a driver holds for as long as its sweep lasts: it joins Ray, but PyTorch is for workers.
DRIVERS_OWN = (
    *("search.driver", "search.live", "search.checking", "search.datasets", "search.recorder", "search.resume"),
    *("trainables.trainable", "trainables.shares", "trainables.checkpoint_places", "trainables.data.bundle"),
)
HEAVY = ("torch", "ray")
A_HEAVY_MODULE = "trainables.types"

# One interpreter loads the libraries once; each module is then imported in a fork that has none of ours yet.
PROBE = """
import importlib, os, sys
libraries, modules = sys.argv[1].split(), sys.argv[2].split()
for name in libraries:
    importlib.import_module(name)
for name in ["", *modules]:
    if os.fork() == 0:
        try:
            name and importlib.import_module(name)
            print(f"{name or 'libraries'}:", *(heavy for heavy in ("torch", "ray") if heavy in sys.modules), flush=True)
        except BaseException as error:
            print(f"{name}: {error!r}", flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, str]:
    """What each light module has loaded of torch and ray after its import, or the error of the import."""
    known = {*sys.stdlib_module_names, *PACKAGES, *HEAVY}
    names = {name for light in (*LIGHT_MODULES, *DRIVERS_OWN) for name in imported(MODULES[light])}
    libraries = {name for name in names if name.partition(".")[0] not in known}
    command = [
        sys.executable,
        "-c",
        PROBE,
        " ".join(sorted(libraries)),
        " ".join([*LIGHT_MODULES, *DRIVERS_OWN, A_HEAVY_MODULE]),
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(line.split(":", 1) for line in result.stdout.splitlines())


@pytest.mark.parametrize("name", ["libraries", *LIGHT_MODULES])
def test_light_modules_load_neither_torch_nor_ray(name, loaded):
    assert loaded[name].strip() == ""


@pytest.mark.parametrize("name", DRIVERS_OWN)
def test_a_drivers_modules_load_no_torch(name, loaded):
    assert loaded[name].strip() in ("", "ray")


def test_a_heavy_module_is_seen_to_load_torch(loaded):
    assert loaded[A_HEAVY_MODULE].strip() == "torch"


@functools.cache
def dependencies(name: str) -> set[str]:
    """Return our modules that importing `name` runs, apart from the packages that it lies in.

    To import a module runs the packages that it lies in, too.
    """
    needed = {found for found in imported(MODULES[name], with_lazy=False) if found in MODULES}
    needed |= {parent for found in needed for parent in packages_of(found)} & set(MODULES)
    return {found for found in needed if found != name and not name.startswith(f"{found}.")}


def packages_of(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def cycle_through(name: str) -> list[str] | None:
    """Return a chain of imports from `name` back to itself, if there is one."""
    chains = [[name]]
    seen: set[str] = set()
    while chains:
        chain = chains.pop()
        for found in dependencies(chain[-1]):
            if found == name:
                return [*chain, name]
            if found not in seen:
                seen.add(found)
                chains.append([*chain, found])
    return None


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in MODULES])
def test_no_module_imports_itself_through_others(name):
    assert cycle_through(name) is None


def test_the_tree_is_the_one_that_is_meant():
    assert {"spaces.params", "search.spec"} <= set(MODULES)


def test_a_forbidden_import_would_be_seen(tmp_path):
    source = tmp_path / "example.py"
    source.write_text("import torch.nn\ndef late():\n    from ray import tune\nfrom spaces import params\n")
    assert imported(source) == {"torch.nn", "ray", "spaces.params"}
    assert imported(source, with_lazy=False) == {"torch.nn", "spaces.params"}
