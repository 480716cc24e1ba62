"""Count lines of code, without docstrings, comments and blank lines: python tools/count_lines.py [FOLDER ...]"""

import ast
import io
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold code."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            lines.difference_update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def function_lengths(source: str) -> dict[str, int]:
    """Lines of code of every function, by name and line."""
    lines = code_lines(source)
    return {
        f"{node.name} (line {node.lineno})": len(lines.intersection(range(node.lineno, node.end_lineno + 1)))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def count(folder: Path) -> dict[Path, int]:
    """Lines of code of every Python file under a folder."""
    return {path: len(code_lines(path.read_text(encoding="utf-8"))) for path in sorted(folder.rglob("*.py"))}


def main() -> None:
    """Print a table of the files and a total for each folder."""
    for name in sys.argv[1:] or ["mtl_course"]:
        counts = count(ROOT / name)
        for path, lines in counts.items():
            print(f"{lines:6d}  {path.relative_to(ROOT)}")
        print(f"{sum(counts.values()):6d}  {name}: lines of code in {len(counts)} files")


if __name__ == "__main__":
    main()
