"""The course in Google Colab: `python tools/colab.py` installs there what is missing, and is called by the notebooks.

`python tools/colab.py --write [ADDRESS]` puts the cell that calls it into every notebook, with the repository's address
where there is one. In Colab that cell fetches the course and calls this file; elsewhere it does nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FIRST = ROOT / "notebooks" / "00_start_here.ipynb"
TAG = "colab"
EXTRAS = ("photos", "weights")
# Colab's torch fits its driver, and its numpy is loaded before the first cell: another version breaks the session.
KEPT = ("torch", "torchvision", "numpy")
# Colab's own page shows notebooks and widgets; it speaks to the ipywidgets that it brought.
FRONT_END = ("jupyterlab", "jupyter_server", "ipywidgets")
METADATA = {
    "cellView": "form",  # Colab shows the title and the field alone
    "jupyter": {"source_hidden": True},
    "tags": [TAG, "remove-cell"],  # the site leaves it out
}
CELL = """\
# @title In Google Colab this cell fetches the course. Elsewhere it does nothing.
import sys

REPOSITORY = "ADDRESS"  # @param {"type": "string"}
if "google.colab" in sys.modules:
    import os
    import subprocess

    mend = "write the address of its git repository into REPOSITORY and run this cell again."
    course = "/content/course"
    if not os.path.isdir(course):
        if not REPOSITORY:
            sys.exit(f"The course is not here yet: {mend}")
        if subprocess.run(["git", "clone", "-q", "--depth=1", "--", REPOSITORY, course]).returncode:
            sys.exit(f"git could not fetch the course from {REPOSITORY!r}: {mend}")
    if subprocess.run([sys.executable, f"{course}/tools/colab.py"]).returncode:
        sys.exit("pip could not install what is missing, see above: run this cell again.")
    sys.path.insert(0, course)
    os.chdir(f"{course}/FOLDER")"""


def source(path: Path, address: str) -> str:
    """The text of the cell in the notebook `path`; an exercise and its solution share one."""
    folder = "notebooks" if path.resolve().parent.name == "notebooks" else "notebooks/exercises"
    return CELL.replace("ADDRESS", address).replace("FOLDER", folder)


def address() -> str:
    """The repository's address as lesson 00 names it, empty when none is known yet."""
    text = "".join(_cells_of(FIRST)[1]["source"])
    return text.partition('REPOSITORY = "')[2].partition('"')[0]


def _cells_of(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def is_colab_cell(cell: dict) -> bool:
    """Whether a cell of a notebook is the one of this file."""
    return TAG in cell["metadata"].get("tags", [])


def missing() -> list[str]:
    """The packages of pyproject.toml that are not there or too old, as pip wants them named, without Colab's own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    needed = [line for line in lines if Requirement(line).name not in (*KEPT, *FRONT_END)]
    return [line for line in needed if not _is_there(Requirement(line))]


def _is_there(wanted: Requirement) -> bool:
    try:
        return wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def install() -> int:
    """Install the course and what is missing, nothing of `KEPT` and `FRONT_END`; 0 when all went well."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-warn-conflicts"]
    commands = [[*pip, "--no-deps", "-e", str(ROOT)]]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        # As the condition of pip's answer: a package that needs another torch is refused, and torch is not exchanged.
        there = [name for name in (*KEPT, *FRONT_END) if _is_there(Requirement(name))]
        constraints.write_text("".join(f"{name}=={metadata.version(name)}\n" for name in there))
        if wanted := missing():
            commands.append([*pip, "-c", str(constraints), *wanted])
        return max(subprocess.run(command).returncode for command in commands)


def with_cell(path: Path, where: str) -> str:
    """A notebook's text with the cell below its title, the repository being at `where`; the execution counts follow."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    text = source(path, where).splitlines(keepends=True)
    ours = {"cell_type": "code", "execution_count": 1, "id": TAG, "metadata": METADATA, "outputs": [], "source": text}
    title, *others = (cell for cell in notebook["cells"] if not is_colab_cell(cell))
    notebook["cells"] = [title, ours, *others]
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, cell in enumerate(code, start=1):
        cell["execution_count"] = count
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = count
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def write(where: str) -> None:
    """Put the cell into every notebook, each written whole or not at all."""
    import check_notebooks

    for path in check_notebooks.committed():
        partial = path.with_suffix(".part")
        partial.write_text(with_cell(path, where), encoding="utf-8")
        os.replace(partial, path)


def main() -> int:
    """Install, or with --write put the cell into every notebook."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", nargs="?", const="", metavar="ADDRESS", help="the repository's, where it has one")
    where = parser.parse_args().write
    return install() if where is None else write(where) or 0


if __name__ == "__main__":
    sys.exit(main())
