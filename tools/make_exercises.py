"""Make notebooks/exercises from notebooks/solutions with nbgrader: python tools/make_exercises.py [NAME ...]

What stands between ### BEGIN SOLUTION and ### END SOLUTION becomes a line to fill in; cells with the tag `solution` are
left out. Both notebooks are then executed, so that both show their pictures.
"""

import sys
from pathlib import Path

import nbformat
from execute_notebooks import execute
from traitlets.config import Config

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
CONFIG = Config(
    ClearSolutions={"code_stub": {"python": "return None  # your code"}},
    TagRemovePreprocessor={"remove_cell_tags": {"solution"}},
)


def exercise_of(solution: Path) -> nbformat.NotebookNode:
    """The exercise notebook of a solution notebook, not executed."""
    from nbconvert.preprocessors import ClearOutputPreprocessor, TagRemovePreprocessor
    from nbgrader.preprocessors import ClearSolutions  # of the extra `classroom`

    notebook = nbformat.read(solution, as_version=4)
    for preprocessor in (TagRemovePreprocessor, ClearSolutions, ClearOutputPreprocessor):
        notebook, _ = preprocessor(config=CONFIG, enabled=True).preprocess(notebook, {})
    for cell in notebook.cells:
        cell.metadata.pop("nbgrader", None)
    return notebook


def main() -> None:
    """Make the exercise notebooks named on the command line, or all."""
    names = sys.argv[1:] or sorted(path.name for path in (NOTEBOOKS / "solutions").glob("*.ipynb"))
    (NOTEBOOKS / "exercises").mkdir(exist_ok=True)
    for name in map(Path, names):
        source, target = NOTEBOOKS / "solutions" / name.name, NOTEBOOKS / "exercises" / name.name
        print(f"{name.name}: solution {execute(source):.1f} s", end=", ", flush=True)
        nbformat.write(exercise_of(source), target)
        print(f"exercise {execute(target):.1f} s", flush=True)


if __name__ == "__main__":
    main()
