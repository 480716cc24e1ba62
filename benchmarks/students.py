"""What a student's lesson and exercises need of a shared machine: memory of the kernel, processor time, wall time.

Run: python benchmarks/students.py  (--write puts the table into benchmarks/RESULTS.md; names of notebooks choose). The
machine should be idle. Memory is the kernel's proportional set size at its highest (files that kernels share count once
for all of them), read ten times a second, with processes that the kernel starts.
"""

import os
import sys
import threading
import time
from pathlib import Path

import nbformat
import psutil
from _report import report
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
COMMAND = "python benchmarks/students.py --write"


class Watch(threading.Thread):
    """The highest memory of a process and its children, in bytes: alone (`pss`), and with what it shares (`rss`)."""

    def __init__(self, process: psutil.Process):
        super().__init__(daemon=True)
        self.process, self.pss, self.rss, self.ended = process, 0, 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            try:
                full = [p.memory_full_info() for p in (self.process, *self.process.children(recursive=True))]
            except psutil.Error:
                continue
            self.pss = max(self.pss, sum(info.pss for info in full))
            self.rss = max(self.rss, sum(info.rss for info in full))


def measure(path: Path) -> dict[str, object]:
    """Run one notebook from a fresh kernel, and what it needed."""
    notebook = nbformat.read(path, as_version=4)
    # The last cell asks the kernel what it used; its children, such as loaders, are in `children_*` once they ended.
    last = "import os; print('used', sum(os.times()[:4]))"
    notebook.cells.append(nbformat.v4.new_code_cell(last))
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}})
    began = time.perf_counter()
    watch = None

    def start(**_: object) -> None:
        nonlocal watch
        if watch is None:
            watch = Watch(psutil.Process(client.km.provisioner.process.pid))
            watch.start()

    client.on_cell_start = start
    client.execute()
    watch.ended.set()
    used = float(notebook.cells[-1].outputs[0].text.split()[1])
    wall = time.perf_counter() - began
    return {
        "notebook": str(path.relative_to(NOTEBOOKS).with_suffix("")),
        "memory, MB": f"{watch.pss / 1e6:.0f}",
        "with what kernels share, MB": f"{watch.rss / 1e6:.0f}",
        "processor, s": f"{used:.0f}",
        "wall, s": f"{wall:.0f}",
        "processors while it runs": f"{used / wall:.1f}",
    }


def main() -> None:
    """Measure the notebooks named, or every lesson and every exercise."""
    os.environ.update(MTL_COURSE_DATA="none", OMP_WAIT_POLICY="passive")
    names = [Path(name).resolve() for name in sys.argv[1:] if not name.startswith("--")]
    paths = names or [*sorted(NOTEBOOKS.glob("*.ipynb")), *sorted(NOTEBOOKS.glob("exercises/*.ipynb"))]
    rows = []
    for path in paths:
        rows.append(measure(path))
        print(rows[-1], flush=True)
    if "--write" in sys.argv:
        report("One student", COMMAND, rows)


if __name__ == "__main__":
    main()
