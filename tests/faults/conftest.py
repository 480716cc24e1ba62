"""`told` holds what the course says against README.md, `course` runs a command as a user does.

MTL_COURSE_FAULTS=write renews the table from what is said now (without -n): read the difference before it is committed.
"""

import ast
import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from mtl_course.__main__ import main

HERE = Path(__file__).parent
TABLE = HERE / "README.md"
WRITE = os.environ.get("MTL_COURSE_FAULTS") == "write"
HEAD = ("Fault", "How the test makes it", "What the course says", "Exit code")


def sections() -> dict[str, dict[str, list[str]]]:
    """The rows of README.md: {section: {fault: its cells}}."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in TABLE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            rows = found[line[3:]] = {}
        elif line.startswith("| ") and not line.startswith(("| ---", f"| {HEAD[0]} |")):
            cells = [cell.replace("\\|", "|") for cell in re.split(r" (?<!\\)\| ", line[2:].removesuffix(" |"))]
            rows[cells[0]] = cells
    return found


def written_words() -> set[str]:
    """Every text that stands in a test of this folder: the name of each row must be one of them."""
    trees = [ast.parse(file.read_text("utf-8")) for file in HERE.glob("test_*.py")]
    return {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def write_row(section: str, cells: list[str]) -> None:
    """Put a row into its section, in the place of the old one or at the end; rows without a test go."""
    text, found, words = TABLE.read_text("utf-8"), sections(), written_words()
    found.setdefault(section, {})[cells[0]] = cells
    lines = [text.partition("\n## ")[0].rstrip("\n")]
    for title, rows in found.items():
        lines += ["", f"## {title}", "", f"| {' | '.join(HEAD)} |", "| --- | --- | --- | --- |"]
        kept = [[cell.replace("|", "\\|") for cell in row] for name, row in rows.items() if name in words]
        lines += [f"| {' | '.join(row)} |" for row in kept]
    TABLE.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture
def told(request, tmp_path):
    """`told(fault, made, said, code=2)`: the row of README.md says this.

    Args of the call:
        fault: its name in the table, written out in the test file.
        made: how this test makes the fault, in a few words.
        said: the sentence. Of paths below the test's folder the name alone counts; that folder itself is FOLDER, and
            numbers of bytes, ports and checksums do not count.
        code: the exit code of the command, or "-" where no command was run.

    The section of the table is `SECTION` of the test's module.
    """

    def check(fault: str, made: str, said: str, code: int | str = 2) -> None:
        said = said.strip().removeprefix("mtl_course: ")
        assert said and len(said.splitlines()) == 1 and "Traceback" not in said, said
        below = re.escape(str(tmp_path)) + r"/(?:[^\s/'\":,]+/)*"
        said = re.sub(below, "", said).replace(str(tmp_path), "FOLDER").replace(tmp_path.name, "FOLDER")
        said = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", re.sub(r"md5 [0-9a-f]{32}", "md5 ...", said))
        said = re.sub(r"(?:\d[\d,]* of )?\d[\d,]* bytes", "N bytes", said)
        row = [fault, made, said, str(code)]
        if WRITE:
            assert "PYTEST_XDIST_WORKER" not in os.environ, "one process at a time can write the table"
            write_row(request.module.SECTION, row)
        assert sections()[request.module.SECTION].get(fault) == row, "see MTL_COURSE_FAULTS in tests/faults/conftest.py"

    return check


class Answer(NamedTuple):
    """What a command gave: exit code, stdout, and the one sentence on stderr ("" if there is none)."""

    code: int
    out: str
    said: str


@pytest.fixture
def course(capfd):
    """`course("train", "--data", "voc", ...)` runs a command in this process and gives its `Answer`.

    Progress bars are no sentence; any other line on stderr must begin with "mtl_course: ", and there is at most one.
    """

    def run(*words: object) -> Answer:
        capfd.readouterr()
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        lines = [line for line in re.split(r"[\r\n]", err) if line.strip() and "%|" not in line and "it/s" not in line]
        assert len(lines) <= 1 and all(line.startswith("mtl_course: ") for line in lines), err
        return Answer(code, out, "".join(lines).removeprefix("mtl_course: "))

    return run
