"""nbgrader's steps for problem sets and submissions: release, autograde, feedback, and the tables for the teacher."""

import contextlib
import csv
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.converters import Autograde, GenerateAssignment, GenerateFeedback
from nbgrader.converters.base import NbGraderException
from nbgrader.utils import is_grade, temp_attrs
from sqlalchemy.exc import SAWarning
from traitlets.config import Config

from grading import box, collect
from grading.judge import JudgedExecute

warnings.filterwarnings("ignore", category=SAWarning)  # nbgrader 0.9.6 with SQLAlchemy 2.1, harmless
STUDENT = re.compile(r"\w[\w.@-]{0,63}")
HERE = Path(__file__).resolve().parent
SEED_BITS = 128  # too many to try: a failed test shows some of the numbers that it drew
SCORE = re.compile(r"mIoU on hidden scenes: (\d\.\d+)")


class HomeworkError(Exception):
    """What keeps the whole run from going on; its text is one sentence."""


@dataclass
class Course:
    """A folder with gradebook, release, submissions and feedback, as nbgrader lays it out.

    Args:
        root: the folder.
        source: the notebooks with solutions and hidden tests, source/NAME/NAME.ipynb.
        isolated: whether submissions run in bubblewrap.
        cell_seconds, total_seconds: time of a cell and of a notebook.
        seed: secret from which the hidden seeds of all sets come; None reads root/seed.txt, or draws one for it.

    Raises:
        HomeworkError: if the folders cannot be used, or the seed is damaged.
    """

    root: Path
    source: Path
    isolated: bool
    cell_seconds: int = 120
    total_seconds: int = 600
    seed: int | None = None
    notes: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self):
        self.root, self.source = self.root.resolve(), self.source.resolve()
        if found := box.exposed([self.root, self.source]):
            raise HomeworkError(f"{found[0]} lies in a folder that submissions can read: choose another place for it.")
        if not self.sets():
            raise HomeworkError(f"There is no problem set in {self.source}: expected is psN/psN.ipynb.")
        for step in ("release", "submitted", "autograded", "feedback"):
            (self.root / step).mkdir(parents=True, exist_ok=True)
        # nbgrader calls `alembic` by its name.
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.log = _log(self.root / "grading.log")
        self.seed = self._seed() if self.seed is None else self.seed
        self.api = NbGraderAPI(config=self._config())
        self.done = self._read_done()

    def _config(self) -> Config:
        config = Config()
        config.CourseDirectory.root = str(self.root)
        config.CourseDirectory.source_directory = str(self.source)
        config.CourseDirectory.db_url = f"sqlite:///{self.root / 'gradebook.db'}"
        steps = [JudgedExecute if step.__name__ == "Execute" else step for step in _default(Autograde)]
        config.Autograde.autograde_preprocessors = steps
        config.OverwriteCells.add_missing_cells = True
        config.JudgedExecute.isolated = self.isolated
        config.JudgedExecute.cell_seconds, config.JudgedExecute.total_seconds = self.cell_seconds, self.total_seconds
        return config

    def _seed(self) -> int:
        """The secret of this course, the same at each run, so that a second grading gives the same marks."""
        path = self.root / "seed.txt"
        if not path.exists():
            path.touch(0o600)
            path.write_text(f"{secrets.randbits(SEED_BITS)}\n")
        text = path.read_bytes().decode("utf-8", "replace").strip()
        if not re.fullmatch(r"[0-9]{1,39}", text):
            told = (
                "holds no whole number. Put the old one back, or remove the file for a new one: marks may then change"
            )
            raise HomeworkError(f"{path} {told}.")
        return int(text)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second run away from the same gradebook."""
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise HomeworkError(f"Another run grades in {self.root}: wait for its end.") from None
            yield

    def sets(self) -> list[str]:
        """The names of the problem sets."""
        return sorted(path.parent.name for path in self.source.glob("*/*.ipynb") if path.stem == path.parent.name)

    def release(self, name: str) -> Path:
        """Make the students' version of a problem set, without solutions and hidden tests; where it is."""
        made, digest = self.root / "release" / name / f"{name}.ipynb", self._digest(name)
        if not made.exists() or self.done.get(name) != digest:
            try:
                self._convert(GenerateAssignment, name, ".")
            except NbGraderException:
                log = self.root / "grading.log"
                told = f"{name} could not be released, see {log}. Cells cannot be added or removed once submissions"
                raise HomeworkError(f"{told} are graded: use another folder for the course, --course.") from None
            self._mark(name, digest)
        return made

    def grade(self, name: str, student: str, folder: Path) -> str:
        """Take in and grade one submission, and write its feedback.

        Returns:
            What was done: "graded", "unchanged" since the last run, or "failed", by a fault of ours.
        """
        release = nbformat.read(self.root / "release" / name / f"{name}.ipynb", as_version=4)
        try:
            text = collect.read(folder, student, name)
            notebook = collect.rebuild(release, collect.parse(text))
        except collect.Refused as why:
            text, notebook = str(why), collect.refused(release, str(why))
        self.notes[student, name] = collect.note(notebook)
        key, digest = f"{name}/{student}", self._digest(name, text)
        if self.done.get(key) == digest and (self.root / "feedback" / student / name / f"{name}.html").exists():
            return "unchanged"
        self._mark(key, None)
        if not self._grade(name, student, notebook):
            return "failed"
        self._mark(key, digest)
        return "graded"

    def _grade(self, name: str, student: str, notebook: nbformat.NotebookNode) -> bool:
        place = self.root / "submitted" / student / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        nbformat.write(notebook, place / f"{name}.ipynb")
        try:
            self._convert(Autograde, name, student)
            self._convert(GenerateFeedback, name, student)
        except Exception:
            self.log.error(traceback.format_exc())
            self._zero(name, student)
            self.notes[student, name] = f"It could not be graded and has 0: see {self.root / 'grading.log'}."
            return False
        return True

    def _convert(self, step: type, name: str, student: str) -> None:
        coursedir = self.api.coursedir
        with temp_attrs(coursedir, assignment_id=name, student_id=student):
            converter = step(coursedir=coursedir, parent=self.api)
            if step is GenerateFeedback:
                converter.update_config(Config({"HTMLExporter": {"template_name": "feedback"}}))
            if step is Autograde:
                converter.update_config(Config({"JudgedExecute": {"hidden_seed": hidden_seed(self.seed, name)}}))
            converter.force = True
            converter.start()

    def _zero(self, name: str, student: str) -> None:
        with self._gradebook() as gradebook:
            gradebook.update_or_create_student(student)
            gradebook.update_or_create_submission(name, student)
            for grade in gradebook.find_submission_notebook(name, name, student).grades:
                grade.auto_score, grade.needs_manual_grade = 0, False
            gradebook.db.commit()

    def _gradebook(self) -> Gradebook:
        return Gradebook(self.api.coursedir.db_url, self.api.coursedir.course_id)

    def _digest(self, name: str, text: str = "") -> str:
        """Changes with all that a mark depends on: the submission, the source, the seed and the grader."""
        files = [self.source / name / f"{name}.ipynb", *sorted(HERE.glob("*.py"))]
        parts = [text.encode(), f"{self.seed} {self.cell_seconds} {self.total_seconds} {self.isolated}".encode()]
        return hashlib.sha256(b"\0".join([*parts, *(file.read_bytes() for file in files)])).hexdigest()

    def _read_done(self) -> dict[str, str]:
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.root / "done.json").read_text())
        return {}

    def _mark(self, key: str, digest: str | None) -> None:
        """Note that something is done, or no longer is; a run that is stopped goes on from here."""
        self.done = {name: value for name, value in self.done.items() if name != key} | (
            {key: digest} if digest else {}
        )
        part = self.root / "done.json.part"
        part.write_text(json.dumps(self.done, indent=1))
        part.replace(self.root / "done.json")

    def scores(self) -> list[dict]:
        """All that the gradebook knows, of earlier runs too.

        Returns:
            A row a student: name, the points of each set (empty if it was never graded), their sum, the most there is,
            and notes.
        """
        points: dict[str, dict[str, float]] = {}  # by set and student
        with self._gradebook() as gradebook:
            most = {assignment.name: assignment.max_score for assignment in gradebook.assignments}
            for name in sorted(most):
                if found := {one.student.id: one.score for one in gradebook.assignment_submissions(name)}:
                    points[name] = found
        rows = []
        for student in sorted({student for found in points.values() for student in found}):
            own = {name: found.get(student, "") for name, found in points.items()}
            told = [f"{name}: {note}" for name in own if own[name] != "" and (note := self._note(student, name))]
            total = sum(found[student] for found in points.values() if student in found)
            of = sum(most[name] for name in points)
            rows.append({"name": student, **own, "total": total, "of": of, "notes": " ".join(told)})
        return rows

    def _note(self, student: str, name: str) -> str:
        """What the table says of a submission; of an earlier run, what was kept of it."""
        if (student, name) in self.notes:
            return self.notes[student, name]
        if f"{name}/{student}" not in self.done:
            return "The last grading did not come to its end: grade it again."
        path = self.root / "submitted" / student / name / f"{name}.ipynb"
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return collect.note(nbformat.read(path, as_version=4))
        return ""

    def leaderboard(self) -> list[dict]:
        """Name and score of all whose tests printed one, the best first."""
        rows = []
        for path in sorted(self.root.glob("autograded/*/*/*.ipynb")):
            if found := SCORE.search(_printed_by_tests(path)):
                rows.append({"name": path.parts[-3], "mIoU": float(found[1])})
        return sorted(rows, key=lambda row: -row["mIoU"])


def hidden_seed(secret: int, name: str) -> int:
    """The hidden seed of a problem set, of 128 bits; from one set's seed nobody gets another's, nor the secret."""
    return int.from_bytes(hashlib.sha256(f"{secret} {name}".encode()).digest()[: SEED_BITS // 8])


def _printed_by_tests(path: Path) -> str:
    """What the judge's process printed; a submission's own cells are left out."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code" and is_grade(cell)]
    return "".join(output.text for cell in cells for output in cell.outputs if output.output_type == "stream")


def _default(step: type) -> list[type]:
    return step.class_traits()["autograde_preprocessors"].default()


def write_table(rows: list[dict], path: Path) -> None:
    """Write a table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def as_text(rows: list[dict]) -> str:
    """A table for the terminal."""
    show: Callable = lambda value: f"{value:g}" if isinstance(value, float) else str(value)  # noqa: E731
    lines = [list(rows[0]), *([show(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def _log(path: Path) -> logging.Logger:
    """nbgrader's messages go to a file; the terminal shows ours."""
    log = logging.getLogger("traitlets")
    for handler in list(log.handlers):
        log.removeHandler(handler)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    return log
