"""The whole loop of the homework, with the real command and the real nbgrader: who gets which marks, cheats too."""

import csv
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import homework_submissions as made
import psutil
import pytest
from grading import box, collect, plain

pytestmark = pytest.mark.homework
ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "notebooks/homework/source"
SETS = ("ps1", "ps2", "ps3", "ps4")
SEED = "7"
isolated = pytest.mark.skipif(not box.bubblewrap_works(), reason="needs bubblewrap that may make namespaces")


def run(course: Path, *arguments: object, seconds: int = 240) -> subprocess.CompletedProcess:
    return command("--course", course, "--seed", SEED, *arguments, seconds=seconds)


def command(*arguments: object, seconds: int = 240, **variables: str) -> subprocess.CompletedProcess:
    words = map(str, [sys.executable, ROOT / "tools/homework.py", *arguments])
    return subprocess.run(list(words), capture_output=True, text=True, timeout=seconds, env=os.environ | variables)


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def gradebook(course: Path) -> dict[tuple[str, str], float]:
    """What nbgrader's database holds: points by student and problem set."""
    query = """SELECT submitted_assignment.student_id, assignment.name, SUM(grade.auto_score) FROM grade
        JOIN submitted_notebook ON grade.notebook_id = submitted_notebook.id
        JOIN submitted_assignment ON submitted_notebook.assignment_id = submitted_assignment.id
        JOIN assignment ON submitted_assignment.assignment_id = assignment.id GROUP BY 1, 2"""
    with sqlite3.connect(course / "gradebook.db") as base:
        return {(student, name): points for student, name, points in base.execute(query)}


def printed(course: Path, student: str, name: str = "ps1") -> str:
    cells = made.load(course / "autograded" / student / name / f"{name}.ipynb")["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "\n".join(made.text({"source": o.get("text", o.get("evalue", ""))}) for o in outputs)


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A course with all problem sets released."""
    root = tmp_path_factory.mktemp("homework") / "course"
    assert run(root).returncode == 0
    return root


@pytest.fixture(scope="module")
def releases(course) -> dict[str, made.Notebook]:
    return {name: made.load(course / "release" / name / f"{name}.ipynb") for name in SETS}


@pytest.fixture(scope="module")
def references() -> dict[str, dict[str, str]]:
    return {name: made.solutions(made.load(SOURCE / name / f"{name}.ipynb")) for name in SETS}


@pytest.fixture(scope="module")
def graded(course, releases, references) -> tuple[Path, subprocess.CompletedProcess]:
    """Problem set 1 of many students, graded by one command."""
    folder = course.parent / "submissions"
    release, right = releases["ps1"], references["ps1"]
    two = made.answered(
        release, {name: right[name] for name in ("product_of_experts", "mix_present")}, made.LIVE_OUTPUT
    )
    two["cells"].append({"cell_type": "markdown", "metadata": {}, "source": made.LIVE_TEXT, "id": "live"})
    greedy = made.answered(release, right, made.GREEDY)
    greedy["cells"] += [made.own_cell(made.HUNGRY), made.own_cell(made.FORKING)]
    magic = {name: f"%matplotlib inline\n{answer}" for name, answer in right.items()}
    pictures = made.answered(release, magic)
    pictures["cells"] += [made.own_cell(f"{made.PICTURE}# {number}") for number in range(made.PICTURES)]
    places = [course / "gradebook.db", SOURCE / "ps1/ps1.ipynb", folder / "right/ps1/ps1.ipynb"]
    submissions = made.cheats(release, list(map(str, places)), "/") | {
        "right": made.answered(release, right),
        "no_edge_cases": made.answered(release, right | made.NO_EDGE_CASES),
        "two_tasks": two,
        "untouched": release,
        "endless": made.answered(release, right | made.ENDLESS),
        "stubborn": made.answered(release, right, made.STUBBORN),
        "greedy": greedy,
        "pictures": pictures,
        "edited": made.edited(release),
        "damaged": '{"cells": [',
        "other": releases["ps2"],
        "without_cells": '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    }
    for student, notebook in submissions.items():
        made.write(notebook, folder, student)
    (folder / "missing").mkdir()
    wrong_name = made.write(made.answered(release, right), folder, "wrong_name")
    wrong_name.rename(wrong_name.with_name("homework.ipynb"))
    (folder / "linked/ps1").mkdir(parents=True)
    (folder / "linked/ps1/ps1.ipynb").symlink_to(SOURCE / "ps1/ps1.ipynb")
    return course, run(course, folder, "--set", "ps1", "--cell-seconds", 5)


# Of 20 points.
MARKS = {
    "right": 20, "no_edge_cases": 18, "two_tasks": 8, "untouched": 0, "endless": 16, "stubborn": 20, "greedy": 20,
    "pictures": 20, "everything": 0, "patched": 0, "transformer": 0, "reader": 0, "edited": 0,
    "damaged": 0, "other": 0, "without_cells": 0, "missing": 0, "wrong_name": 0, "linked": 0,
}  # fmt: skip
UNCHANGED = "no solution cell was changed"
NOTES = {
    "untouched": UNCHANGED, "edited": UNCHANGED, "damaged": "damaged", "other": "another notebook",
    "without_cells": "no cells", "missing": "is missing", "wrong_name": "has another name",
    "linked": "is a link",
}  # fmt: skip


@isolated
def test_marks_are_as_they_should_be(graded):
    course, answer = graded
    print(answer.stdout)
    assert answer.returncode == 0, answer.stderr
    rows = table(course / "scores.csv")
    assert {name: float(row["ps1"]) for name, row in rows.items()} == MARKS
    assert {row["of"] for row in rows.values()} == {"20.0"}
    assert "Traceback" not in answer.stdout + answer.stderr and not answer.stderr


@isolated
def test_the_gradebook_holds_the_same_marks(graded):
    course, _ = graded
    kept = gradebook(course)
    assert {student: kept[student, "ps1"] for student in MARKS} == MARKS


@isolated
def test_what_cannot_be_graded_is_told_in_a_sentence(graded):
    rows = table(graded[0] / "scores.csv")
    for student, row in rows.items():
        assert NOTES.get(student, "") in row["notes"]
        assert bool(row["notes"]) == (student in NOTES), row
        page = graded[0] / "feedback" / student / "ps1/ps1.html"
        assert page.exists()
        if NOTES.get(student, UNCHANGED) != UNCHANGED:
            assert NOTES[student] in page.read_text(encoding="utf-8")


@isolated
def test_the_reader_found_nothing(graded):
    found = printed(graded[0], "reader")
    assert "read: []" in found and "written: []" in found
    assert found.count("FileNotFoundError") == 3  # the three places it was told


@isolated
def test_the_feedback_runs_nothing_of_a_submission(graded):
    page = (graded[0] / "feedback/two_tasks/ps1/ps1.html").read_text(encoding="utf-8")
    assert "raised" in page and "printed" in page
    for tag in re.findall(r"<[^>]*>", page):
        assert "onerror" not in tag and "javascript:" not in tag, tag
    assert not re.search(r"<script[^>]*>\s*alert", page)
    assert "javascript:alert(2)" in page and "<h1" in page  # told as text; our own text cells are still shown as text


@isolated
def test_what_was_stopped_says_so(graded):
    assert "stopped after 5 seconds" in printed(graded[0], "endless")
    assert "did not stop when its time was over" in printed(graded[0], "stubborn")
    greedy = printed(graded[0], "greedy")
    assert "the rest of the output is left out" in greedy and len(greedy) < 300_000
    assert "can't allocate memory" in greedy or "MemoryError" in greedy
    assert "it had more than" in greedy or "it used more than" in greedy  # copies of torch count too


@isolated
def test_a_page_of_feedback_has_an_end(graded):
    page = graded[0] / "feedback/pictures/ps1/ps1.html"
    assert 6_000_000 < page.stat().st_size < 11_500_000  # all its pictures are 22 MB
    assert page.read_text(encoding="utf-8").count("no more pictures of this notebook") == 1


@isolated
def test_a_second_run_grades_what_changed(graded, releases, references):
    course, _ = graded
    folder = course.parent / "submissions"
    made.write(made.answered(releases["ps1"], references["ps1"]), folder, "two_tasks")
    answer = run(course, folder, "--set", "ps1", "--cell-seconds", 5)
    assert "two_tasks ps1: graded" in answer.stdout and answer.stdout.count("unchanged") == len(MARKS) - 1
    marks = {name: float(row["ps1"]) for name, row in table(course / "scores.csv").items()}
    assert marks == MARKS | {"two_tasks": 20}


@isolated
def test_grading_a_part_of_the_class_keeps_the_others_in_the_tables(graded, releases):
    course, _ = graded
    before = table(course / "scores.csv")
    made.write(releases["ps1"], course.parent / "part", "late")
    assert run(course, course.parent / "part", "--set", "ps1").returncode == 0
    after = table(course / "scores.csv")
    assert UNCHANGED in after.pop("late")["notes"] and after == before


@isolated
def test_solutions_get_all_points_and_untouched_notebooks_none(graded, releases, references):
    """Of the first set the marks above say the same, and they stay in the table."""
    course, _ = graded
    folder, names = course.parent / "all_sets", SETS[1:]
    for name in names:
        made.write(made.answered(releases[name], references[name]), folder, "solved", name)
        made.write(releases[name], folder, "nothing", name)
    answer = run(course, folder, "--set", *names)
    rows = table(course / "scores.csv")
    assert [float(rows["solved"][name]) for name in names] == [20] * 3, answer.stdout
    assert [float(rows["nothing"][name]) for name in names] == [0] * 3, answer.stdout
    assert (rows["solved"]["ps1"], rows["solved"]["total"], rows["solved"]["of"]) == ("", "60.0", "80.0")
    assert (rows["right"]["ps1"], rows["right"]["ps2"], rows["right"]["total"]) == ("20.0", "", "20.0")
    board = table(course / "leaderboard.csv")
    assert list(board) == ["solved"] and float(board["solved"]["mIoU"]) > 0.5 and "leaderboard" in answer.stdout


def test_released_notebooks_hold_no_solution_and_no_hidden_test(releases, references):
    for name in SETS:
        source = made.load(SOURCE / name / f"{name}.ipynb")
        shown = "\n".join(map(made.text, releases[name]["cells"]))
        assert "SOLUTION" not in shown and "HIDDEN" not in shown and "hidden_seed" not in shown
        hidden = [made.text(c).split("HIDDEN TESTS\n")[1] for c in source["cells"] if "HIDDEN TESTS" in made.text(c)]
        lines = [line for part in (*hidden, *_between(references[name])) for line in part.splitlines()]
        assert len(hidden) >= 6 and len(references[name]) >= 3
        secret = {line.strip() for line in lines if len(line) > 30 and "###" not in line}
        visible = {line.strip() for line in _visible(source).splitlines()}
        assert not (secret - visible) & {line.strip() for line in shown.splitlines()}


def _between(solutions: dict[str, str]) -> list[str]:
    return [text.split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0] for text in solutions.values()]


def _visible(source: made.Notebook) -> str:
    """Lines of tests that are shown and stand in hidden tests too, such as a random generator."""
    return "\n".join(made.text(c) for c in source["cells"] if "### BEGIN" not in made.text(c))


def test_every_problem_set_has_twenty_points_in_small_cells():
    for name in SETS:
        cells = [c["metadata"].get("nbgrader", {}) for c in made.load(SOURCE / name / f"{name}.ipynb")["cells"]]
        points = [cell["points"] for cell in cells if cell.get("grade")]
        assert sum(points) == 20 and max(points) <= 3
        assert len({cell["grade_id"] for cell in cells if cell}) == sum(map(bool, cells))


def test_the_points_of_the_project_lie_above_what_needs_no_thought():
    rows = made.load(ROOT / "notebooks/homework/thresholds.json")["rows"]
    cells = made.load(SOURCE / "ps4/ps4.ipynb")["cells"]
    asked = [float(x) for cell in cells for x in re.findall(r"assert score > ([\d.]+)", made.text(cell))]
    low, middle, high = asked
    assert len(rows) == 5 and f"{max(row['best constant'] for row in rows):.2f}" == "0.07" and low > 0.07
    simple, reference = ([row[name] for row in rows] for name in ("one pixel at a time", "reference"))
    told = made.text(cells[0])
    for values in (simple, reference):
        assert f"{min(values):.2f} to {max(values):.2f}" in told
    assert low < min(simple) and max(simple) < middle < high < min(reference)
    assert max(row["one pixel at a time, worst class"] for row in rows) < 0.1
    assert min(row["reference, worst class"] for row in rows) > 0.3


def test_visible_tests_of_the_release_run_in_one_kernel(releases, references):
    """As a student runs them: the functions are in the same process, and the helpers of the setup serve both worlds."""
    for name in SETS[:3]:
        world: dict = {}
        for cell in made.answered(releases[name], references[name])["cells"]:
            if cell["cell_type"] == "code":
                exec(made.text(cell), world)
        assert world["value_and_grad"](lambda x: (x**2).sum(), world["torch"].ones(2))[1].tolist() == [2, 2]
        with pytest.raises(AssertionError, match="expected is shape"):
            world["expect"](world["torch"].ones(2), world["torch"].ones(3), "a test")


def test_without_bubblewrap_it_grades_and_says_what_is_not_kept_out(releases, references, tmp_path):
    folder = tmp_path / "submissions"
    made.write(made.answered(releases["ps1"], references["ps1"] | made.ENDLESS), folder, "someone")
    answer = run(tmp_path / "course", folder, "--set", "ps1", "--isolation", "none", "--cell-seconds", 3)
    assert "Cheats are not kept out" in answer.stdout and "apt-get install bubblewrap" in answer.stdout
    scores = tmp_path / "course/scores.csv"
    assert float(table(scores)["someone"]["ps1"]) == 16
    scores.unlink()
    scores.mkdir()  # it cannot be written
    answer = run(tmp_path / "course", folder, "--set", "ps1", "--isolation", "none", "--cell-seconds", 3)
    assert answer.returncode == 2 and answer.stderr.startswith(f"Stopped: {scores}: Is a directory.")
    assert "someone ps1: unchanged" in answer.stdout


def test_without_bubblewrap_it_refuses_unless_told_otherwise(releases, tmp_path):
    made.write(releases["ps1"], tmp_path / "submissions", "someone")
    answer = command(tmp_path / "submissions", "--course", tmp_path / "course", PATH="/nowhere")
    assert answer.returncode == 2 and not (tmp_path / "course").exists()
    for told in ("Nothing is graded", "Cheats are not kept out", "apt-get install bubblewrap", "--isolation none"):
        assert told in answer.stderr


MISTAKES = {
    "negative seed": (["--seed=-1"], "is no seed"),
    "large seed": (["--seed", "9" * 40], "is no seed"),
    "no time": (["--cell-seconds", "0"], "is no time"),
    "negative time": (["--total-seconds=-5"], "is no time"),
    "no sets": (["--source", "empty"], "There is no problem set"),
    "below a file": (["--course", "file/course"], "Not a directory"),
    "nobody": (["empty"], "There is no submission"),
    "no notebook": (["nothing"], "There is no submission"),
    "in the course": (["course/submitted"], "lie in one another"),
    "course in it": (["nothing", "--course", "nothing/course"], "lie in one another"),
    "empty seed": (["--course", "old"], "seed.txt holds no whole number"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_of_the_user_are_told_in_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "nothing/student/ps1", "old"):
        Path(folder).mkdir(parents=True)
    for file in ("file", "old/seed.txt"):
        Path(file).touch()
    made.write("{}", Path("course/submitted"), "student")
    before = sorted(Path().rglob("*"))
    words, told = MISTAKES[name]
    answer = command("--course", "course", *words)
    assert answer.returncode == 2 and told in answer.stderr and "Traceback" not in answer.stderr
    if name != "empty seed":
        assert sorted(Path().rglob("*")) == before


def test_the_hidden_seed_cannot_be_guessed_nor_found_from_another_set(tmp_path):
    from grading.course import hidden_seed

    assert command("--course", tmp_path, "--set", "ps1").returncode == 0
    secret = tmp_path / "seed.txt"
    assert int(secret.read_text()) > 2**90 and secret.stat().st_mode & 0o77 == 0
    seeds = [hidden_seed(int(secret.read_text()), name) for name in SETS]
    assert len(set(seeds)) == 4 and all(2**90 < seed < 2**128 for seed in seeds)
    assert hidden_seed(1, "ps1") == hidden_seed(1, "ps1") != hidden_seed(2, "ps1")


def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    def closed(*arguments):
        raise PermissionError(13, "Permission denied")

    path = made.write("{}", tmp_path, "someone")
    monkeypatch.setattr(collect.os, "open", closed)
    with pytest.raises(collect.Refused, match=r"cannot be read \(Permission denied\)"):
        collect.read(tmp_path, "someone", "ps1")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(collect.Refused, match=r"someone/ps1/ps1.ipynb is no file"):
        collect.read(tmp_path, "someone", "ps1")


def test_missing_solution_cells_are_noted(releases):
    import nbformat

    release = nbformat.reads(json.dumps(releases["ps1"]), as_version=4)
    answer = made.answered(releases["ps1"], {})
    answer["cells"] = [cell for cell in answer["cells"] if made.grade_id(cell) != "mix_present"]
    answer["cells"].append(made.own_cell("def mix_present(alpha, outputs, present): ..."))
    told = collect.note(collect.rebuild(release, collect.parse(json.dumps(answer))))
    assert "Solution cells are missing: mix_present." in told
    whole = collect.rebuild(release, collect.parse(json.dumps(releases["ps1"])))
    assert "missing" not in collect.note(whole)


def test_shared_memory_counts_too():
    code = "import mmap; m = mmap.mmap(-1, 2**26); m.write(b'x' * 2**26); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert box.memory_of(psutil.Process(process.pid)) > 2**26
        process.communicate(b"\n")


def test_when_the_time_of_the_notebook_is_over_no_cell_is_run():
    from grading.judge import Session

    session = Session([], False, box.Limits(total_seconds=0), 1)
    try:
        (output,) = session.run_student("print('run')")
    finally:
        session.close()
    assert output.evalue == "The time of the whole notebook is over. This cell was not run."


@isolated
def test_stopped_by_ctrl_c_it_leaves_a_sound_gradebook_and_goes_on(releases, references, tmp_path):
    folder, course = tmp_path / "submissions", tmp_path / "course"
    for student in ("first", "second"):
        made.write(made.answered(releases["ps1"], references["ps1"]), folder, student)
    command = [sys.executable, ROOT / "tools/homework.py", folder, "--set", "ps1", "--course", course, "--seed", SEED]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("first"):
            break
    time.sleep(1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130 and "goes on from here" in process.stderr.read()
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert len(children) >= 4 and all(child.status() == psutil.STATUS_ZOMBIE for child in alive)
    assert gradebook(course)["first", "ps1"] == 20
    answer = run(course, folder, "--set", "ps1")
    assert "first ps1: unchanged" in answer.stdout and "second ps1: graded" in answer.stdout
    assert gradebook(course) == {("first", "ps1"): 20, ("second", "ps1"): 20}


def test_the_cheats_work_in_nbgrader_as_it_is(releases, references, tmp_path):
    """Else the tests above could not fail: in one kernel all four get full marks, and the others lose theirs."""
    default = tmp_path / "course"
    source = json.loads(json.dumps(made.load(SOURCE / "ps1/ps1.ipynb")))
    setup = next(cell for cell in source["cells"] if (made.grade_id(cell) or "").endswith("setup"))
    setup["source"] = made.text(setup) + f"\nhidden_seed = {SEED}\n"
    made.write(source, tmp_path, "course/source")
    places = [str(default / "gradebook.db"), str(default / "source/ps1/ps1.ipynb")]
    right = made.answered(releases["ps1"], references["ps1"])
    cheats = made.cheats(releases["ps1"], places, str(default))
    reader = cheats.pop("reader")
    for student, notebook in ({"right": right} | cheats).items():
        made.write(notebook, default / "submitted", student)
    nbgrader(default, "generate_assignment", "ps1")
    nbgrader(default, "autograde", "ps1")
    assert set(gradebook(default).values()) == {20} and len(gradebook(default)) == 4
    made.write(reader, default / "submitted", "reader")
    nbgrader(default, "autograde", "ps1")
    marks = {student: points for (student, _), points in gradebook(default).items()}
    assert marks == {"right": 0, "everything": 0, "patched": 0, "transformer": 0, "reader": 20}


def nbgrader(folder: Path, *arguments: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    answer = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PATH": path},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_plain_data_come_back_as_they_were():
    import numpy as np
    import torch

    values = [
        None, True, 3, 2.5, float("nan"), "text", [1, [2]], (1, "a"), {"a": torch.ones(2), 1: None}, np.arange(3),
        torch.zeros(0, 2), torch.tensor(1.5), torch.tensor([True, False]), torch.rand(2, 3).T, torch.ones(2).half(),
    ]  # fmt: skip
    for value in values:
        found = plain.decode(json.loads(json.dumps(plain.encode(value))))
        assert type(found) is type(value) and repr(found) == repr(value)
    assert plain.decode(plain.encode(torch.nn.Parameter(torch.ones(1)))).requires_grad is False


@pytest.mark.parametrize(
    "data",
    [
        ["tensor", "float32", [2], "AAAA"], ["tensor", "object", [1], "AAAAAAAAAAA="], ["code", "print()"], {"a": 1},
        ["tensor", "float32", [-1, -1], "AAAAAA=="], ["dict", [[["list", []], 1]]], ["list", 3], ["dict", [[1]]],
    ],
)  # fmt: skip
def test_forged_answers_are_refused(data):
    with pytest.raises(plain.NotPlain):
        plain.decode(data)


def test_a_bool_is_never_a_third_truth_value():
    assert plain.decode(["tensor", "bool", [2], "AgA="]).tolist() == [True, False]


def test_an_object_that_is_no_plain_data_does_not_pass():
    with pytest.raises(plain.NotPlain, match="a object, and expected are tensors"):
        plain.encode([object()])


def test_a_course_folder_that_submissions_could_read_is_refused():
    answer = run(Path(sys.prefix) / "course")
    assert not (Path(sys.prefix) / "course").exists()
    assert answer.returncode == 2 and "lies in a folder that submissions can read" in answer.stderr


def test_the_names_come_from_the_stubs(releases):
    import nbformat

    release = nbformat.reads(json.dumps(releases["ps4"]), as_version=4)
    assert collect.names_in(release) == ["class_weights", "mirror", "predict"]
