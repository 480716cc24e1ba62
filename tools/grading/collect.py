"""Take in what students hand in: read it with care, and put it into the form of the released notebook."""

import ast
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.utils import is_solution

MAX_BYTES = 20 * 2**20


class Refused(Exception):
    """A submission that cannot be graded; its text is one sentence."""


def read(folder: Path, student: str, name: str) -> str:
    """The text of folder/student/name/name.ipynb.

    Raises:
        Refused: if there is none, or it is a link, too large, no text, or may not be read.
    """
    try:
        return _read(folder, student, name)
    except OSError as error:
        raise Refused(f"The file cannot be read ({error.strerror}).") from None


def _read(folder: Path, student: str, name: str) -> str:
    path = folder / student / name / f"{name}.ipynb"
    for place in (path.parent.parent, path.parent, path):
        if place.is_symlink():
            raise Refused(f"{place.relative_to(folder)} is a link, and expected is a file of its own.")
    if path.exists() and not path.is_file():
        raise Refused(f"{path.relative_to(folder)} is no file, and expected is a notebook.")
    if not path.is_file():
        others = sorted(other.name for other in path.parent.glob("*.ipynb") if other.is_file())
        found = f"; {others[0]!r} has another name" if others else ""
        raise Refused(f"No submission: {path.relative_to(folder)} is missing{found}.")
    # Opened without following links, so that what was checked is what is read.
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(number, "rb") as file:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            raise Refused(f"The file is no notebook, or larger than {MAX_BYTES >> 20} MiB.")
        return file.read(MAX_BYTES).decode("utf-8", "replace")


def parse(text: str) -> NotebookNode:
    """The notebook that a text holds.

    Raises:
        Refused: if it holds none.
    """
    try:
        notebook = nbformat.reads(text, as_version=4)
        cells = [(cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]
    except Exception as error:  # nbformat raises many kinds on damaged files
        raise Refused(f"The file is damaged and cannot be read as a notebook ({type(error).__name__}).") from None
    fits = [type(source) is str and isinstance(metadata, dict) for _, source, metadata in cells]
    if not cells or not all(fits):
        raise Refused("The notebook has no cells, or cells that are damaged.")
    return notebook


def rebuild(release: NotebookNode, submitted: NotebookNode) -> NotebookNode:
    """The released notebook with the submission's solutions and further cells in it.

    Nothing else of the submission is kept: no metadata (a tag could have a test skipped), no outputs, no test.

    Raises:
        Refused: if no solution cell of the release is in the submission.
    """
    known = {_id(cell): cell for cell in release.cells if _id(cell)}
    if not any(_id(cell) in known and is_solution(known[_id(cell)]) for cell in submitted.cells):
        raise Refused("None of its cells is a solution cell of this problem set: it may be another notebook.")
    ours = {cell.source for cell in release.cells if cell.cell_type == "markdown"}
    answers: dict[str, str] = {}
    further: dict[str | None, list[NotebookNode]] = {}
    last = None
    for cell in submitted.cells:
        if _id(cell) in known and _id(cell) not in answers:
            last = _id(cell)
            answers[last] = cell.source
        else:
            further.setdefault(last, []).append(_plain(cell, ours))
    cells = further.get(None, [])
    for name, cell in known.items():
        kept = NotebookNode(cell)
        if is_solution(cell) and name in answers:
            kept.source = _text(answers[name])
        cells += [kept, *further.get(name, [])]
    missing = [name for name, cell in known.items() if is_solution(cell) and name not in answers]
    return _notebook(release, cells, untouched=_untouched(cells, known), missing=missing)


def refused(release: NotebookNode, why: str) -> NotebookNode:
    """The released notebook as it is, marked not to be run: it gets 0, and the feedback says why."""
    note = nbformat.v4.new_markdown_cell(_literal(why))
    return _notebook(release, [note, *release.cells], untouched=False, why=why)


def names_in(release: NotebookNode) -> list[str]:
    """The functions that the solution cells of a release are to define, from their stubs."""
    trees = (ast.parse(cell.source) for cell in release.cells if cell.cell_type == "code" and is_solution(cell))
    return [node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]


def students(folder: Path) -> Iterator[str]:
    """The folders of the students, by name."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield path.name


def note(notebook: NotebookNode) -> str:
    """What the table says of a notebook that `rebuild` or `refused` made; empty if there is nothing to say."""
    about = notebook.metadata.homework
    told = [about.refused] if about.refused else []
    if about.untouched:
        told.append("Untouched: no solution cell was changed.")
    if about.missing:
        told.append(f"Solution cells are missing: {', '.join(about.missing)}.")
    return " ".join(told)


def _notebook(
    release: NotebookNode, cells: list, untouched: bool, why: str = "", missing: Iterable[str] = ()
) -> NotebookNode:
    made = nbformat.v4.new_notebook(cells=cells)
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"
    made.metadata.kernelspec = release.metadata.get("kernelspec", {})
    about = {"names": names_in(release), "refused": why, "untouched": untouched, "missing": list(missing)}
    made.metadata.homework = NotebookNode(about)
    return made


def _untouched(cells: list, known: dict[str, NotebookNode]) -> bool:
    solutions = [cell for cell in cells if _id(cell) in known and is_solution(cell)]
    return all(cell.source == known[_id(cell)].source for cell in solutions)


def _id(cell: NotebookNode) -> str | None:
    """The name that nbgrader gave a cell: of a solution, a test, or a cell of ours that is locked."""
    about = cell.metadata.get("nbgrader")
    name = about.get("grade_id") if isinstance(about, dict) else None
    return name if isinstance(name, str) else None


def _plain(cell: NotebookNode, ours: set[str]) -> NotebookNode:
    """A cell of the student's own: its text alone."""
    if cell.cell_type == "code":
        return nbformat.v4.new_code_cell(_text(cell.source))
    return nbformat.v4.new_markdown_cell(cell.source if cell.source in ours else _literal(_text(cell.source)))


def _literal(text: str) -> str:
    """Markdown that shows a text as it is: the teacher's browser must not run what stands in a submission."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _text(source: str) -> str:
    return source.encode("utf-8", "replace").decode()
