"""Every lesson from a fresh kernel with one thread and again with two: its assertions and checked outputs hold in both.

Sums are rounded in another order with another number of threads, so a number in the text that hangs on the last digits
would be told otherwise on another machine.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def executed(lesson, threads):
    """Run a lesson as `make test-notebooks` does; what pytest said, and its exit code."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600", lesson]
    free = os.environ | {"MTL_COURSE_DATA": "none", "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, cwd=ROOT, env=free, capture_output=True, text=True, timeout=3600)
    return done.returncode, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.long
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem[:2])
def test_lesson_says_the_same_with_any_number_of_threads(lesson, threads):
    code, said = executed(lesson, threads)
    assert code == 0, said
    assert " passed" in said and "failed" not in said
