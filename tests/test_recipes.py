"""The three recipes of CONTRIBUTING.md, done word for word in a copy of the checkout, and each without one step."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import count_lines
import nbformat
import numpy as np
import pytest
from PIL import Image
from test_repository import ROOT, tracked

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = ("Add a rule for α", "Add a data set", "Add a lesson")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
REPOSITORY_TESTS = ".venv/bin/python -m pytest -q tests/test_repository.py"
pytestmark = pytest.mark.skipif(find_spec("ruff") is None, reason="ruff is not installed (extra dev)")


def recipe(title: str) -> list[tuple[str, str, str]]:
    """(text before it, language, content) of each block of a recipe."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^#+ )", without_cells(title), re.DOTALL | re.MULTILINE)
    blocks, end = [], 0
    for found in BLOCK.finditer(section):
        blocks.append((section[end : found.start()], found[1], restored(found[2])))
        end = found.end()
    return blocks


def without_cells(title: str) -> str:
    """The text, in whose blocks a heading or comment does not look like a heading of the text."""
    return BLOCK.sub(lambda block: re.sub(r"^#", "\N{NULL}#", block[0], flags=re.MULTILINE), TEXT)


def restored(content: str) -> str:
    return content.replace("\N{NULL}#", "#")


# --- what a block asks for


def add_blocks(copy: Path, title: str) -> list[str]:
    """Do what the blocks of a recipe say; gives the commands that it names."""
    commands, cells = [], []
    for before, language, content in recipe(title):
        place = re.search(r"(New file|new file|At the end of) `([^`]+)`:\s*$", before)
        if place and place[2].endswith(".ipynb"):
            cells = [copy / place[2]]
        if language == "sh":
            commands += content.splitlines()
        elif language == "diff":
            change(copy, content)
        elif cells and language in ("markdown", "python"):
            cells.append((language, content.rstrip("\n")))
        else:
            assert place, f"a block of {title!r} that names no file:\n{content}"
            write(copy / place[2], content, new="ew file" in place[1])
    if cells:
        write_notebook(*cells)
    return commands


def write(path: Path, content: str, new: bool) -> None:
    assert path.exists() != new, f"{path} is new: {new}"
    with path.open("a", encoding="utf-8") as file:
        file.write(content if new else "\n\n" + content)


def write_notebook(path: Path, *cells: tuple[str, str]) -> None:
    assert not path.exists()
    make = {"markdown": nbformat.v4.new_markdown_cell, "python": nbformat.v4.new_code_cell}
    notebook = nbformat.v4.new_notebook(cells=[make[language](content) for language, content in cells])
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def change(copy: Path, diff: str) -> None:
    """Add the + lines of each file named after --- below the lines that stand over them."""
    for name, lines in re.findall(r"^--- (.+)\n((?:(?!--- ).*\n)*)", diff, re.MULTILINE):
        path = copy / name
        if path.suffix == ".ipynb":
            change_notebook(path, lines)
        else:
            path.write_text(changed(path.read_text(encoding="utf-8"), lines, name), encoding="utf-8")


def changed(text: str, diff: str, name: str) -> str:
    lines, place = text.splitlines(), 0
    for context, added in re.findall(r"((?:(?!\+).*\n)+)((?:\+.*\n)+)", diff):
        wanted = [line[1:] for line in context.splitlines()]
        fits = [k for k in range(place, len(lines)) if all(map(same, wanted, lines[k : k + len(wanted)]))]
        assert fits, f"{name} has no line {wanted}"
        place = fits[0] + len(wanted)
        lines[place:place] = [line[1:] for line in added.splitlines()]
    return "\n".join(lines) + "\n"


def same(wanted: str, line: str) -> bool:
    return line.startswith(wanted[:-1]) if wanted.endswith("…") else line == wanted


def change_notebook(path: Path, diff: str) -> None:
    """As `changed`, in the one cell of text that has the line."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    first = diff.splitlines()[0][1:]
    cells = [c for c in notebook["cells"] if any(same(first, line) for line in "".join(c["source"]).splitlines())]
    assert len(cells) == 1, f"{path.name} has {len(cells)} cells with {first}"
    cells[0]["source"] = changed("".join(cells[0]["source"]), diff, path.name).rstrip("\n").splitlines(keepends=True)
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


# --- the copy, and what runs in it


def run(copy: Path, command: str) -> subprocess.CompletedProcess:
    """One command of a recipe, with this interpreter and the package of the copy."""
    words = shlex.split(command)
    assert words[0] == ".venv/bin/python", command
    # What these tests do not need (nbval, xdist; the browser and the drawn VOC of conftest.py) costs seconds.
    quick = {"PYTEST_ADDOPTS": "--noconftest", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    env = os.environ | {"PYTHONPATH": str(copy)} | quick
    return subprocess.run([sys.executable, *words[1:]], cwd=copy, env=env, capture_output=True, text=True, timeout=300)


def passes(copy: Path, command: str) -> str:
    done = run(copy, command)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def fails(copy: Path, command: str) -> str:
    done = run(copy, command)
    assert done.returncode == 1, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture
def copy(tmp_path):
    """A folder for a copy of 20 MB, which pytest would keep for three more runs."""
    yield tmp_path / "course"
    shutil.rmtree(tmp_path / "course", ignore_errors=True)


def fresh_copy(folder: Path) -> Path:
    for path in tracked():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    where = passes(folder, ".venv/bin/python -c 'import mtl_course; print(mtl_course.__file__)'")
    assert Path(where.strip()).is_relative_to(folder), where
    return folder


def follow(copy: Path, title: str, prepare=lambda copy: None) -> str:
    """The recipe done in a copy, its commands run; what they printed."""
    fresh_copy(copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    commands = add_blocks(copy, title)
    prepare(copy)
    touched = [path for path in copy.rglob("*") if path.is_file() and before.get(path) != path.read_bytes()]
    said = "".join(passes(copy, command) for command in commands)
    code = [str(path) for path in touched if path.suffix in (".py", ".ipynb")]
    passes(copy, shlex.join([".venv/bin/python", "-m", "ruff", "check", "--no-cache", *code]))
    passes(copy, shlex.join([".venv/bin/python", "-m", "ruff", "format", "--no-cache", "--check", *code]))
    return said


def undo(copy: Path, *names: str) -> None:
    """Some steps of the recipe not done: the files as they are in the checkout, or not there."""
    for name in names:
        if (ROOT / name).exists():
            shutil.copyfile(ROOT / name, copy / name)
        else:
            (copy / name).unlink()


def test_a_rule(copy):
    said = follow(copy, RECIPES[0])
    assert int(re.search(r"(\d+) passed", said)[1]) >= 30, said
    assert (copy / "runs/rule/best.safetensors").is_file() and "8 pictures to learn from" in said
    undo(copy, "tests/test_rule_values.py")
    said = fails(copy, ".venv/bin/python -m pytest -q tests/test_rule_values.py -k worked_value")
    assert "equal_lengths" in said


def small_camvid(copy: Path) -> None:
    ids = np.zeros((24, 32), np.uint8)
    ids[12:], ids[:, :4] = 3, 11
    for split in ("train", "val", "test"):
        for folder, pixels in ((split, np.stack([20 * ids] * 3, 2)), (f"{split}annot", ids)):
            (copy / "data/CamVid" / folder).mkdir(parents=True)
            for name in "abcd":
                Image.fromarray(pixels).save(copy / "data/CamVid" / folder / f"{name}.png")


def test_a_data_set(copy):
    said = follow(copy, RECIPES[1], small_camvid)
    assert "4 pictures to learn from, 4 to choose the epoch, 4 to report; tasks semantic" in said
    assert (copy / "runs/camvid/best.safetensors").is_file()
    undo(copy, "data/README.md", "tests/test_camvid.py")
    said = fails(copy, f"{REPOSITORY_TESTS} -k data_set")
    assert "camvid in data/README.md" in said and "tests/test_camvid.py" in said


def test_a_lesson(copy):
    said = follow(copy, RECIPES[2])
    assert "12_one_pixel_off.ipynb ..." in said and "1 notebooks are ready" in said
    notebook = nbformat.read(copy / "notebooks/12_one_pixel_off.ipynb", as_version=4)
    (output,) = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert output.metadata["image/png"]["alt"].startswith("IoU against the side")
    steps = "notebooks/00_start_here.ipynb", "notebooks/TEACHING.md", "CHANGELOG.md"
    undo(copy, *steps, "README.md")
    said = fails(copy, f"{REPOSITORY_TESTS} tests/test_readme.py -k 'lesson_stands or minutes_of_the_lessons'")
    assert "FAILED tests/test_readme.py::test_the_table_of_lessons_has_the_minutes_of_the_lessons[README.md]" in said
    assert all(f"12_one_pixel_off.ipynb is not in {step}" in said for step in steps), said


def lines_of_code(title: str) -> int:
    """Those that a recipe adds to the package."""
    total = 0
    for before, language, content in recipe(title):
        if language == "python" and re.search(r"(?:ew file|At the end of) `mtl_course/[^`]+`:\s*$", before):
            total += len(count_lines.code_lines(content))
        for name, lines in re.findall(r"^--- (.+)\n((?:(?!--- ).*\n)*)", content if language == "diff" else "", re.M):
            total += len(re.findall(r"^\+ *\S", lines, re.M)) if name.startswith("mtl_course/") else 0
    return total


def test_the_text_says_how_much_room_a_recipe_needs():
    rule, data, lesson = map(lines_of_code, RECIPES)
    assert rule >= 5 and lesson == 0
    assert f"the rule takes {rule} lines of code, the data set {data}, the lesson {lesson}." in TEXT


def test_a_text_that_no_longer_fits_is_noticed(tmp_path):
    (tmp_path / "a.md").write_text("one\ntwo\n")
    change(tmp_path, "--- a.md\n o…\n+between\n two\n+last\n")
    assert (tmp_path / "a.md").read_text() == "one\nbetween\ntwo\nlast\n"
    with pytest.raises(AssertionError, match="no line"):
        change(tmp_path, "--- a.md\n three\n+four\n")
