"""python -m mtl_course records: hand over to tools/experiments, which lies beside the package.

It works with the programs in data/records, which are there only in a checkout of the course; so its code stays there
too, and the package holds what reads a record.
"""

import argparse
import sys
from pathlib import Path
from pkgutil import resolve_name

import mtl_course
from mtl_course.errors import CourseError


def records(arguments: argparse.Namespace) -> int | None:
    """Do one action with the records.

    Returns:
        The exit code of verify.

    Raises:
        CourseError: if the package was installed without the folder of the course, or the action fails.
    """
    tools = Path(mtl_course.__file__).resolve().parents[1] / "tools"
    if not (tools / "experiments").is_dir():
        raise CourseError(f"no {tools / 'experiments'}: records need the whole course, so clone it and run this there")
    sys.path += [] if str(tools) in sys.path else [str(tools)]
    return resolve_name("experiments.command:records")(arguments)
