"""What importing the package costs after torch and torchvision are there, by the time of the process.

Run: python benchmarks/import_time.py  (--write puts the table into benchmarks/RESULTS.md)
"""

import statistics
import subprocess
import sys

from _report import report

CODE = """
import sys, time
import torch, torchvision
start = time.process_time()
import {modules}
print(time.process_time() - start)
assert not {{"matplotlib", "IPython", "ipywidgets", "torchmetrics"}} & set(sys.modules), "a heavy module came along"
"""
CASES = {
    "import mtl_course": "mtl_course",
    "and every module for training": "mtl_course.datasets, mtl_course.models, mtl_course.training",
}


def seconds(modules: str) -> float:
    """Median of seven fresh interpreters."""
    command = [sys.executable, "-c", CODE.format(modules=modules)]
    return statistics.median(float(subprocess.check_output(command)) for _ in range(7))


def main() -> None:
    """Measure, print, and write the table if asked."""
    rows = [{"what": what, "CPU seconds": f"{seconds(modules):.3f}"} for what, modules in CASES.items()]
    if "--write" in sys.argv:
        report("Import after torch and torchvision", "python benchmarks/import_time.py --write", rows)
    else:
        print(*rows, sep="\n")


if __name__ == "__main__":
    main()
