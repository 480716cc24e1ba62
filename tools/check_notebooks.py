"""Check that lessons are ready to commit: python tools/check_notebooks.py [NOTEBOOK ...]"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import colab

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 600_000
MAX_CODE_CELLS = 27
MAX_LINES = 20
RENEW = "`python tools/colab.py --write` mends it"
MEND = "Mend the cell, then store fresh outputs with `make outputs NOTEBOOKS=...`."


def problems(path: Path) -> list[str]:
    """Sentences on what is wrong with one notebook; empty when it may be committed."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [*_of_the_whole(path, notebook), *_of_colab(path, notebook["cells"]), *_of_the_cells(notebook["cells"])]


def _of_the_whole(path: Path, notebook: dict) -> Iterator[str]:
    cells = notebook["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    own = [cell for cell in code if not colab.is_colab_cell(cell)]
    if path.stat().st_size > MAX_BYTES:
        yield f"it has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}"
    if "widgets" in notebook["metadata"]:
        yield "it holds widget state"
    if len(own) > MAX_CODE_CELLS:
        yield f"it has {len(own)} code cells, more than {MAX_CODE_CELLS}"
    if [cell["execution_count"] for cell in code] != list(range(1, len(code) + 1)):
        yield "its execution counts are not 1, 2, 3 ... in order: it was not run from a fresh kernel, top to bottom"
    if not any(cell["outputs"] for cell in code):
        yield "it has no outputs"
    titles = [line for cell in cells for line in _headings(cell) if line.startswith("# ")]
    if len(titles) != 1 or not _source(cells[0]).startswith("# "):
        yield f"it should start with its only '# ' heading and has {len(titles)}: {titles}"


def _of_colab(path: Path, cells: list[dict]) -> Iterator[str]:
    """The cell for Google Colab stands below the title, with the text of tools/colab.py, and says nothing."""
    found = [number for number, cell in enumerate(cells, start=1) if colab.is_colab_cell(cell)]
    if found != [2]:
        yield f"the cell for Google Colab should be cell 2, and is {found or 'missing'}; {RENEW}"
        return
    if _source(cells[1]) != colab.source(path, colab.address()) or cells[1]["metadata"] != colab.METADATA:
        yield f"cell 2 is not the one for Google Colab that every notebook has; {RENEW}"
    if cells[1]["outputs"]:
        yield "cell 2, for Google Colab, has outputs"


def _of_the_cells(cells: list[dict]) -> Iterator[str]:
    for number, (before, cell) in enumerate(zip([{}, *cells], cells, strict=False), start=1):
        if cell["cell_type"] == "code":
            if before.get("cell_type") != "markdown" and not (number == 3 and colab.is_colab_cell(before)):
                yield f"cell {number} is code without a text cell before it"
            if len(_source(cell).splitlines()) > MAX_LINES:
                yield f"cell {number} has {len(_source(cell).splitlines())} lines, more than {MAX_LINES}"
            if "NBVAL_CHECK_OUTPUT" in _source(cell) and not cell["outputs"]:
                yield f"cell {number} is compared with its stored output (NBVAL_CHECK_OUTPUT) and has none"
            for output in cell["outputs"]:
                yield from (f"cell {number} {what}" for what in _of_one_output(output))


def _of_one_output(output: dict) -> Iterator[str]:
    data = output.get("data", {})
    if output["output_type"] == "error":
        yield f"stopped with {output['ename']}"
    if output.get("name") == "stderr":
        yield "printed to stderr: " + "".join(output["text"])[:80]
    if "application/vnd.jupyter.widget-view+json" in data:
        yield "holds a widget view, which needs a live kernel"
    kinds = [kind for kind in data if kind.startswith("image/")]
    if not all(output.get("metadata", {}).get(kind, {}).get("alt", "").strip() for kind in kinds):
        yield "shows a picture without an alt sentence (use plotting.show(figure, alt=...))"


def _source(cell: dict) -> str:
    return "".join(cell["source"])


def _headings(cell: dict) -> list[str]:
    if cell["cell_type"] != "markdown":
        return []
    text = "".join(_source(cell).split("```")[::2])  # what stands outside fenced code
    return [line for line in text.splitlines() if line.startswith("#")]


def committed() -> list[Path]:
    """The lessons, and the exercises with and without their solutions."""
    return [
        path
        for folder in ("", "solutions/", "exercises/")
        for path in sorted((ROOT / "notebooks").glob(f"{folder}*.ipynb"))
    ]


def main() -> int:
    """Print what is wrong with the notebooks named, or with all that are committed; 1 when something is."""
    paths = [Path(name) for name in sys.argv[1:]] or committed()
    found = [f"{path.name}: {problem}" for path in paths for problem in problems(path)]
    print("\n".join([*found, MEND]) if found else f"{len(paths)} notebooks are ready to commit.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
