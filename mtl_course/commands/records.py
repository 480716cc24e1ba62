"""python -m mtl_course records: hand over to tools/experiments, which lies beside the package.

It works with the programs in data/records, which are there only in a checkout of the course; so its code stays there
too, and the package holds what reads a record.
"""

import argparse

from mtl_course.records import store


def records(arguments: argparse.Namespace) -> int | None:
    """Do one action with the records.

    Returns:
        The exit code of verify.

    Raises:
        CourseError: if the package was installed without the folder of the course, or the action fails.
    """
    return store.tool("command:records")(arguments)
