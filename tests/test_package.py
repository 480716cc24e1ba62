"""The package itself: what importing it brings in, and the order of its modules."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mtl_course

PACKAGE = Path(mtl_course.__file__).parent
ORDER = [
    "errors",
    "files",
    "spec",
    "distributed",
    "formula",
    "losses",
    "metrics",
    "tasks",
    "datasets",
    "models",
    "balancing",
    "training",
    "records",
    "plotting",
    "widgets",
    "exercises",
    "doctor",
    "commands",
    "__main__",
]


def test_every_module_has_its_place_in_the_order():
    found = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert found - {"__init__"} == set(ORDER)


def loaded_after(code):
    """Names of the modules that are loaded after `code` ran in a fresh interpreter."""
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "",
        ".tasks",
        ".losses",
        ".models",
        ".training",
        ".records",
        ".datasets",
        ".plotting",
        ".commands.predict",
        ".__main__",
    ],
)
def test_import_brings_no_jupyter_matplotlib_or_torchmetrics(module):
    loaded = {name.partition(".")[0] for name in loaded_after(f"import mtl_course{module}")}
    assert not loaded & {"matplotlib", "IPython", "ipywidgets", "jupyterlab", "notebook", "torchmetrics", "pandas"}


def test_submodules_are_reached_from_the_package():
    assert mtl_course.models.UNet and mtl_course.losses.cross_entropy
    with pytest.raises(AttributeError, match="it has formula"):
        mtl_course.modles  # noqa: B018


def test_modules_import_downward_only():
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if name not in ORDER:
            continue
        tree = ast.parse(path.read_text())
        # Names under TYPE_CHECKING serve the reader and the type checker only.
        skipped = {
            id(n)
            for node in ast.walk(tree)
            if isinstance(node, ast.If)
            for n in ast.walk(node)
            if "TYPE_CHECKING" in ast.unparse(node.test)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.ImportFrom)
                and (node.module or "").startswith("mtl_course")
                and id(node) not in skipped
            ):
                rest = node.module.removeprefix("mtl_course").strip(".").split(".")[0]
                used = [rest] if rest else [alias.name for alias in node.names]
                for other in used:
                    if other in ORDER:
                        assert ORDER.index(other) <= ORDER.index(name), f"{path} imports {other}"


def imported_at_once(path):
    """The modules of this package that a module imports when it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = PACKAGE.parent / f"{node.module}.{alias.name}".replace(".", "/")
                is_module = module.is_dir() or module.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def test_there_is_an_order_in_which_each_module_can_be_read():
    """Also within a folder no two modules need each other; `__init__` gathers what they hold."""
    graph = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if path.stem != "__init__":
            graph[name] = {other for other in imported_at_once(path) if other.startswith("mtl_course.")} - {name}
    assert graph["mtl_course.tasks"] == {"mtl_course.errors", "mtl_course.losses"}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(graph) <= set(order)
