"""Release and grade the homework: python tools/homework.py [SUBMISSIONS] [--set ps1 ...]

Without SUBMISSIONS it makes the students' notebooks. With it, each SUBMISSIONS/NAME/psN/psN.ipynb is graded; feedback
(HTML), scores.csv and leaderboard.csv go to the course folder. A second run grades what has changed.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NO_BUBBLEWRAP = (
    "Cheats are not kept out: without bubblewrap a submission can read hidden tests and solutions and change the marks "
    "of others. Install 0.8 or newer (Debian, Ubuntu: apt-get install bubblewrap) where it may make user namespaces "
    "(Ubuntu 24.04 may need an AppArmor profile for bwrap)."
)
GRADE_ANYWAY = "This grades without keeping cheats out: python tools/homework.py {} --isolation none"


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: expected are 1 to 86400 whole seconds")
    return int(text)


def _secret(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 39:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no seed: expected is a whole number, 0 or more, of 39 digits at most"
        )
    return int(text)


def options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", nargs="?", type=Path, help="folder of the submissions, NAME/psN/psN.ipynb")
    parser.add_argument("--set", nargs="+", dest="sets", metavar="NAME", help="the problem sets (default: all)")
    parser.add_argument("--course", type=Path, default=ROOT / "runs/homework", help="gradebook, release, feedback")
    parser.add_argument("--source", type=Path, default=ROOT / "notebooks/homework/source", help="the sources")
    parser.add_argument("--isolation", choices=("auto", "bwrap", "none"), default="auto", help="how submissions run")
    parser.add_argument("--cell-seconds", type=_seconds, default=120, help="time of one cell (default: 120)")
    parser.add_argument("--total-seconds", type=_seconds, default=600, help="time of one notebook (default: 600)")
    parser.add_argument(
        "--seed", type=_secret, help="of the hidden tests (default: drawn once, kept in COURSE/seed.txt)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when all went well, 2 on a mistake of the user."""
    asked = options(arguments)
    try:
        from grading.course import Course, HomeworkError
    except ImportError as error:
        print(f"{error.name} is missing: install the extra `classroom`, pip install -e '.[classroom]'", file=sys.stderr)
        return 2
    try:
        students = _students(asked.submissions, asked.course) if asked.submissions else []
        isolated = _isolated(asked)
        course = Course(asked.course, asked.source, isolated, asked.cell_seconds, asked.total_seconds, asked.seed)
        with course.lock():
            _run(course, asked, students)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"Stopped: {error.filename}: {error.strerror}. What was graded is kept.", file=sys.stderr)
        return 2
    except HomeworkError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. What was graded is kept; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def _isolated(asked: argparse.Namespace) -> bool:
    from grading.box import bubblewrap_works
    from grading.course import HomeworkError

    works = asked.isolation != "none" and bubblewrap_works()
    if asked.submissions and asked.isolation != "none" and not works:
        raise HomeworkError(f"Nothing is graded. {NO_BUBBLEWRAP} {GRADE_ANYWAY.format(asked.submissions)}")
    return works


def _run(course, asked: argparse.Namespace, students: list[str]) -> None:
    from grading import course as tables

    names = asked.sets or course.sets()
    if unknown := set(names) - set(course.sets()):
        raise tables.HomeworkError(f"There is no problem set {', '.join(sorted(unknown))}: {', '.join(course.sets())}.")
    for name in names:
        print(f"{name}: the students' notebook is {course.release(name)}")
    if not asked.submissions:
        return
    if not course.isolated:
        print(NO_BUBBLEWRAP)
    for student in students:
        for name in names:
            start = time.monotonic()
            done = course.grade(name, student, asked.submissions.resolve())
            note = course.notes.get((student, name))
            print(f"{student} {name}: {done}, {time.monotonic() - start:.0f} s. {note or ''}".rstrip(), flush=True)
    _tables(course)


def _students(folder: Path, course: Path) -> list[str]:
    from grading import collect
    from grading import course as tables

    if not folder.is_dir():
        raise tables.HomeworkError(f"{folder} is not a folder: expected is one folder a student in it.")
    one, other = folder.resolve(), course.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        told = "lie in one another: what was handed in could be overwritten. Choose another place for one of them"
        raise tables.HomeworkError(f"The submissions, {folder}, and the course, {course}, {told}.")
    found = list(collect.students(folder))
    for name in found:
        if not tables.STUDENT.fullmatch(name):
            print(f"The folder {name!r} is left out: a name has letters, digits and . _ - @ only. Rename it.")
    students = [name for name in found if tables.STUDENT.fullmatch(name)]
    if not any(next((folder / name).glob("*/*.ipynb"), None) for name in students):
        raise tables.HomeworkError(f"There is no submission in {folder}: expected is NAME/psN/psN.ipynb.")
    return students


def _tables(course) -> None:
    from grading import course as tables

    found = {"scores": course.scores(), "leaderboard": course.leaderboard()}
    for what, rows in found.items():
        if not rows:
            continue
        path = course.root / f"{what}.csv"
        tables.write_table(rows, path)
        print(f"\n{what} ({path})\n{tables.as_text(rows)}")
    print(f"\nFeedback: {course.root / 'feedback'}/NAME/psN/psN.html")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
