"""Execute lessons from a fresh kernel and store their outputs: python tools/execute_notebooks.py [NOTEBOOK ...]

The outputs hold no photograph of Pascal VOC (MTL_COURSE_DATA=none), no widget state and no progress bars, and the same
notebook gives the same bytes on every run. A notebook is written whole or not at all.
"""

import os
import sys
import time
from pathlib import Path

import colab
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

LESSONS = Path(__file__).resolve().parent.parent / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> float:
    """Run one notebook, write it back with its outputs and the cell for Colab, and return the seconds it took."""
    notebook = nbformat.reads(colab.with_cell(path, colab.address()), as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources=place,
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,  # how a print is cut into messages differs from run to run
    )
    client.extra_arguments = ["--log-level=ERROR"]  # what the kernel says of itself is no news to an author
    number = 0

    def remember(cell, cell_index, **_):
        nonlocal number
        number = cell_index + 1

    client.on_cell_start = remember
    start = time.perf_counter()
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError) as error:
        raise SystemExit(f"{path}: cell {number} stopped, nothing was written.\n{error}") from None
    clean(notebook)
    partial = path.with_suffix(".part")
    partial.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return time.perf_counter() - start


def clean(notebook: nbformat.NotebookNode) -> None:
    """Remove what differs from run to run or needs a live kernel: widget views, progress bars, timings, versions."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        for key in ("execution", "ExecuteTime", "collapsed"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if keep(output)]


def keep(output: nbformat.NotebookNode) -> bool:
    """Drop the widget view from an output; say whether something worth keeping is left."""
    if output.output_type == "stream":
        return not (output.name == "stderr" and "%|" in output.text)  # a tqdm bar; any other stderr stays to be seen
    data = output.get("data", {})
    return data.pop(WIDGET, None) is None or bool(set(data) - {"text/plain"})


def main() -> None:
    """Execute the notebooks named on the command line, or all lessons."""
    os.environ.update(MTL_COURSE_DATA="none", OMP_WAIT_POLICY="passive")
    paths = [Path(name) for name in sys.argv[1:]] or sorted(LESSONS.glob("*.ipynb"))
    for path in paths:
        print(f"{path.name} ...", end=" ", flush=True)
        print(f"{execute(path):.1f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
