"""The package stays small enough to be read: the budget of lines, short functions, and nothing written twice."""

import ast
import statistics
from collections import defaultdict
from pathlib import Path

import count_lines
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mtl_course"
SHELL = {PACKAGE / name for name in ("__main__.py", "doctor.py", "commands", "widgets", "exercises")}
BLOCK = 6  # lines of code that are equal in two places


def lengths():
    return {
        f"{path.relative_to(ROOT)} {name}": lines
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, lines in count_lines.function_lengths(path.read_text(encoding="utf-8")).items()
    }


def code_alone(source):
    """(number, text) of each line of code without docstrings, comments and imports, white space as one blank."""
    imports = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.update(range(node.lineno, node.end_lineno + 1))
    lines = source.splitlines()
    return [
        (number, " ".join(lines[number - 1].split())) for number in sorted(count_lines.code_lines(source) - imports)
    ]


def blocks_twice(sources, size=BLOCK):
    """Where `size` lines of code follow each other in two places or more.

    Args:
        sources: texts by name.
        size: of a block, in lines of code.
    """
    places = defaultdict(list)
    for name, source in sources.items():
        code = code_alone(source)
        for start in range(len(code) - size + 1):
            block = code[start : start + size]
            places[tuple(text for _, text in block)].append(f"{name}:{block[0][0]}")
    return [found for found in places.values() if len(found) > 1]


def test_the_package_stays_small():
    """The budget is the core's: the command line with its doctor, the viewers and the checks do not count."""
    counts = count_lines.count(PACKAGE)
    core = sum(lines for path, lines in counts.items() if SHELL.isdisjoint((path, path.parent)))
    print(f"lines of code: {core} in the core, {sum(counts.values())} in all")
    assert core < 3200 and sum(counts.values()) < 5000, "the budget of CONTRIBUTING.md"


def test_the_viewers_stay_small():
    javascript = sum(len(path.read_text().splitlines()) for path in (PACKAGE / "widgets" / "js").glob("*.js"))
    python = sum(count_lines.count(PACKAGE / "widgets").values())
    print(f"viewers: {javascript} lines of JavaScript, {python} lines of Python")
    assert javascript < 1600 and python < 600


def test_functions_are_short():
    found = lengths()
    median = statistics.median(found.values())
    print(f"{len(found)} functions, median {median} lines, longest {max(found.values())}")
    assert median <= 10
    assert {name: lines for name, lines in found.items() if lines > 40} == {}


def test_files_are_short():
    found = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path): lines for path, lines in found.items() if lines > 250} == {}


def test_no_block_of_code_stands_in_two_places():
    assert blocks_twice({str(p.relative_to(ROOT)): p.read_text() for p in sorted(PACKAGE.rglob("*.py"))}) == []


BODY = "x = 1\ny = 2\nz = 3\nu = 4\nv = 5\nw = 6\n"


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (BODY, 1),
        (BODY.replace("z = 3\n", '"""Text."""\n\n# why\nimport os\nz  =  3  # here\n'), 0),  # a text is code here
        (BODY.replace("z = 3\n", "\n# why\nimport os\nz  =  3\n"), 1),
        ("def f():\n" + "".join(f"    {line}\n" for line in BODY.splitlines()), 1),
        (BODY.replace("u = 4", "u = 5"), 0),
        (BODY.replace("w = 6\n", ""), 0),
    ],
)
def test_blocks_are_found_across_blanks_comments_and_indents(other, found):
    assert len(blocks_twice({"a": BODY, "b": other})) == found


def test_a_block_is_found_twice_in_one_file():
    assert blocks_twice({"a": BODY + "k = 0\n" + BODY}) == [["a:1", "a:8"]]


def test_lines_of_code_are_counted_without_docstrings_comments_and_blanks():
    source = '"""Doc."""\n\nx = """two\nlines"""  # comment\n\n\n'
    source += 'def f():\n    """Doc\n    string."""\n    # why\n    return x\n'
    assert count_lines.code_lines(source) == {3, 4, 7, 11}
    assert count_lines.function_lengths(source) == {"f (line 7)": 2}
