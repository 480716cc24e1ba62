"""The first code cell of every notebook: nothing at home, and in Google Colab the course without another torch.

Colab itself is not here. A child process plays it: `google.colab` is loaded, two packages are missing, one of Colab's
own is old, pip writes down what it is asked, and the course's repository is a copy of this checkout.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import check_notebooks
import colab
import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSON = ROOT / "notebooks" / "00_start_here.ipynb"
EXERCISE = ROOT / "notebooks" / "exercises" / "10_pascal_voc.ipynb"
PLAYED = {
    "google/colab/__init__.py": "",
    "pip/__init__.py": "",  # else it is no package, and the real pip is called
    "pip/__main__.py": "import json, os, sys\nfrom pathlib import Path\n"
    "files = [Path(v).read_text() for k, v in zip(sys.argv, sys.argv[1:]) if k == '-c']\n"
    "print(json.dumps(sys.argv[1:] + files), file=open(os.environ['ASKED'], 'a'))\n"
    "sys.exit(int(os.environ.get('PIP_FAILS', 0)))\n",
    "sitecustomize.py": "from importlib import metadata\nreal = metadata.version\n"
    "def version(name):\n"
    "    if name in ('torchmetrics', 'efficientnet-lite-pytorch'):\n        raise metadata.PackageNotFoundError(name)\n"
    "    return '7.7.1' if name == 'ipywidgets' else real(name)\n"
    "metadata.version = version\n",
}


def code_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """The address of a git repository that holds the course as it lies here."""
    root = tmp_path_factory.mktemp("hub") / "course"
    for part in ("mtl_course", "tools", "data/checkpoints"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (ROOT / "pyproject.toml", LESSON, EXERCISE):
        (root / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path.relative_to(ROOT))
    name = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "-A"], [*name, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root.as_uri()


@pytest.fixture
def session(tmp_path):
    """Runs cells in a new session of the played Colab; gives what it printed, and what pip was asked."""
    for name, text in PLAYED.items():
        (tmp_path / "played" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "played" / name).write_text(text)
    content, asked = tmp_path / "content", tmp_path / "asked"
    content.mkdir()

    def run(*cells: str, **environment: str) -> tuple[subprocess.CompletedProcess, list[list[str]]]:
        moved = [cell.replace("/content/", f"{content}/") for cell in cells]
        program = "import google.colab, pip\nassert 'played' in pip.__file__\n"
        program += f"for cell in {moved!r}:\n    exec(cell, globals())"
        own = {"PYTHONPATH": str(tmp_path / "played"), "PYTHONSAFEPATH": "1", "ASKED": str(asked)}
        own |= {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1"}  # the real pip, were it called, would change nothing
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | own | environment,
            cwd=content,
            capture_output=True,
            text=True,
        )
        return done, [json.loads(line) for line in asked.read_text().splitlines()] if asked.exists() else []

    run.content = content
    return run


def test_elsewhere_the_cell_does_nothing(capfd):
    assert "google.colab" not in sys.modules
    names, modules, place = {}, set(sys.modules), os.getcwd()
    exec(code_cells(LESSON)[0], names)
    assert set(names) - {"__builtins__"} == {"sys", "REPOSITORY"}
    assert set(sys.modules) == modules and os.getcwd() == place
    assert capfd.readouterr() == ("", "")


def test_the_cell_is_short_and_hidden():
    lines = colab.source(LESSON, "https://example.org/somebody/multitask.git").splitlines()
    assert len(lines) <= 20 and max(map(len, lines)) <= 100
    assert colab.METADATA["jupyter"]["source_hidden"] and colab.METADATA["cellView"] == "form"
    assert colab.TAG in colab.METADATA["tags"]


def test_in_colab_the_course_is_fetched_and_torch_is_left_alone(session, address):
    imports = code_cells(LESSON)[1]
    load = "training.load('../data/checkpoints/scenes.safetensors')\nprint(training.__file__)"
    done, asked = session(colab.source(LESSON, address), imports, load)
    assert done.returncode == 0, done.stderr
    course = session.content / "course"
    assert done.stdout.splitlines() == [str(course / "mtl_course/training/__init__.py")]
    editable, missing = asked
    assert editable[0] == "install" and editable[-3:] == ["--no-deps", "-e", str(course)]
    *words, _, _, first, second, constraints = missing
    assert [first.partition(">")[0], second.partition(">")[0]] == ["torchmetrics", "efficientnet-lite-pytorch"]
    kept = {name: metadata.version(name) for name in ("torch", "torchvision", "numpy")} | {"ipywidgets": "7.7.1"}
    assert {f"{name}=={version}" for name, version in kept.items()} <= set(constraints.splitlines())
    assert not {"-U", "--upgrade", "--force-reinstall"} & {*words, *editable}


def test_an_exercise_stands_in_its_own_folder(session, address):
    done, _ = session(
        colab.source(EXERCISE, address), "print(os.path.getsize('../../data/checkpoints/scenes.safetensors'))"
    )
    assert done.returncode == 0 and int(done.stdout) > 100_000
    assert "../../data/checkpoints/scenes.safetensors" in "".join(code_cells(EXERCISE))


def test_a_second_notebook_of_the_session_fetches_nothing_again(session, address):
    first, second = colab.source(LESSON, address), colab.source(LESSON, "")
    done, asked = session(first, second)
    assert done.returncode == 0, done.stderr
    assert [words[-2:] for words in asked[::2]] == [["-e", str(session.content / "course")]] * 2


@pytest.mark.parametrize("where", ["", "/no/such/repository", "--upload-pack=touch stolen"])
def test_a_missing_or_wrong_address_is_one_sentence(session, where):
    done, asked = session(colab.source(LESSON, where))
    assert done.returncode == 1 and asked == [] and list(session.content.iterdir()) == []
    assert done.stderr.splitlines()[-1].endswith("into REPOSITORY and run this cell again.")
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_where_pip_fails_the_lesson_does_not_go_on(session, address):
    done, _ = session(colab.source(LESSON, address), "print('went on')", PIP_FAILS="1")
    assert done.returncode == 1 and "went on" not in done.stdout and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pip could not install")


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ({}, []),
        ({"torchmetrics": None, "efficientnet-lite-pytorch": None}, ["torchmetrics", "efficientnet-lite-pytorch"]),
        ({"matplotlib": "3.7.1"}, ["matplotlib"]),
        ({"torch": "2.4.0", "torchvision": None, "numpy": "1.26.4", "jupyterlab": None, "ipywidgets": "7.7.1"}, []),
    ],
)
def test_only_what_is_missing_or_too_old_is_installed(monkeypatch, there, wanted):
    real = metadata.version

    def version(name):
        if there.get(name, "") is None:
            raise metadata.PackageNotFoundError(name)
        return there.get(name) or real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert [line.partition(">")[0] for line in colab.missing()] == wanted


def changed(tmp_path: Path, change) -> list[str]:
    """What check_notebooks says about lesson 00 after a change of its cells."""
    notebook = json.loads(LESSON.read_text(encoding="utf-8"))
    change(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, start=1):
        cell["execution_count"] = number
    path = tmp_path / "notebooks" / LESSON.name
    path.parent.mkdir()
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return check_notebooks.problems(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda cells: None, None),
        (lambda cells: cells.pop(1), "should be cell 2, and is missing"),
        (lambda cells: cells.insert(1, cells.pop(2)), "should be cell 2, and is [3]"),
        (lambda cells: cells[1]["source"].append("\n"), "not the one for Google Colab that every notebook has"),
        (lambda cells: cells[1]["metadata"].pop("cellView"), "not the one for Google Colab that every notebook has"),
        (
            lambda cells: cells[1]["outputs"].append({"output_type": "stream", "name": "stdout", "text": ["x"]}),
            "outputs",
        ),
    ],
)
def test_a_notebook_without_the_right_cell_is_not_ready(tmp_path, change, words):
    found = changed(tmp_path, change)
    assert found == [] if words is None else len(found) == 1 and words in found[0]


def test_writing_the_cell_renews_an_old_one_and_changes_nothing_else():
    text = LESSON.read_text(encoding="utf-8")
    assert colab.with_cell(LESSON, colab.address()) == text
    other = json.loads(colab.with_cell(LESSON, "https://example.org/somebody/multitask.git"))["cells"]
    mine = json.loads(text)["cells"]
    assert 'REPOSITORY = "https://example.org/somebody/multitask.git"' in "".join(other[1]["source"])
    assert other[:1] + other[2:] == mine[:1] + mine[2:]
