"""The checks of the exercises, held against right and wrong answers, and the notebooks that use them."""

import importlib
import pkgutil
import re
import time

import answers
import make_exercises
import mistakes_table
import nbformat
import pytest
from nbclient import NotebookClient

from mtl_course.exercises import check

pytestmark = pytest.mark.exercises
for found in pkgutil.iter_modules(answers.__path__):
    importlib.import_module(f"answers.{found.name}")
EXERCISES = sorted(vars(check))
RIGHT = [pytest.param(name, one, id=f"{name}-{one.__name__}") for name, many in answers.RIGHT.items() for one in many]
WRONG = [
    pytest.param(name, one, words, id=f"{name}-{one.__name__}")
    for name, many in answers.WRONG.items()
    for one, words in many
]
SEEDS = [range(3), pytest.param(range(3, 100), marks=pytest.mark.long)]
SOLUTIONS = sorted((make_exercises.NOTEBOOKS / "solutions").glob("*.ipynb"))


def test_there_are_enough_of_each():
    counts = (len(EXERCISES), len(WRONG), len(RIGHT))
    print("exercises, wrong answers, right ones: {} {} {}".format(*counts))
    assert counts >= (36, 144, 72) and counts[1] >= 144 and counts[2] >= 72
    assert set(EXERCISES) == set(answers.WRONG) == set(answers.RIGHT)
    assert all(len(answers.WRONG[name]) >= 4 and len(answers.RIGHT[name]) >= 2 for name in EXERCISES)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("name, answer", RIGHT)
def test_a_right_answer_is_accepted(name, answer, seeds):
    exercise = getattr(check, name)
    assert {exercise.judge(answer, seed) for seed in seeds} == {(True, exercise.sentences()[0])}


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("name, answer, words", WRONG)
def test_a_wrong_answer_is_refused_with_its_sentence(name, answer, words, seeds):
    for seed in seeds:
        right, says = getattr(check, name).judge(answer, seed)
        assert right is False and words in says


@pytest.mark.parametrize("name", EXERCISES)
def test_each_mistake_has_a_sentence_of_its_own(name):
    words = [words for _, words in answers.WRONG[name]]
    said = [getattr(check, name).judge(answer)[1] for answer, _ in answers.WRONG[name]]
    assert len(set(words)) == len(words) and len(set(said)) == len(said)
    assert sum(one in text for one in words for text in said) == len(words), "words that fit one sentence alone"


@pytest.mark.parametrize("name", EXERCISES)
def test_every_sentence_of_a_check_is_said_to_someone(name):
    exercise = getattr(check, name)
    said = {exercise.judge(answer)[1] for answer, _ in answers.WRONG[name]}
    assert set(exercise.sentences()[1:]) <= said


@pytest.mark.parametrize("name", EXERCISES)
def test_a_check_is_calm_about_an_empty_answer_and_quick(name, capsys):
    exercise = getattr(check, name)
    for empty in (lambda *_: None, lambda *_: ...):
        exercise(empty)
    assert capsys.readouterr().out == f"{name}: not solved yet. (It returns nothing.)\n" * 2
    start = time.process_time()
    for answer in answers.RIGHT[name]:
        exercise.judge(answer)
    print(f"{(time.process_time() - start) / len(answers.RIGHT[name]):.2f} s of a processor")


def sources(notebook: nbformat.NotebookNode) -> list[tuple]:
    return [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]


@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda path: path.stem)
def test_exercise_notebooks_are_made_from_the_solutions(solution):
    made = make_exercises.exercise_of(solution)
    stored = nbformat.read(make_exercises.NOTEBOOKS / "exercises" / solution.name, as_version=4)
    assert sources(made) == sources(stored), "run `make exercises`"
    assert "SOLUTION" not in "".join(cell.source for cell in stored.cells)


def verdicts(path) -> dict[str, str]:
    """What each check says when the notebook is run: its name and the first word."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
    print(f"{path.parent.name}/{path.name}: {time.perf_counter() - start:.1f} s")
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    return dict(re.findall(r"^(\w+): (right|not yet|not solved yet)\.", printed, flags=re.MULTILINE))


@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_are_right_and_untouched_exercises_are_not(solution):
    solved = verdicts(solution)
    untouched = verdicts(make_exercises.NOTEBOOKS / "exercises" / solution.name)
    assert set(solved) == set(untouched) == set(checks_in(solution))
    assert set(solved.values()) == {"right"} and set(untouched.values()) == {"not solved yet"}


def checks_in(path) -> list[str]:
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return re.findall(r"check\.(\w+)\(", "\n".join(code))


def test_each_exercise_is_in_one_notebook_with_all_that_belongs_to_it():
    assert sorted(name for path in SOLUTIONS for name in checks_in(path)) == EXERCISES
    for path in SOLUTIONS:
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        count = len(checks_in(path))
        assert 3 <= count <= 5
        assert len(re.findall(r"^Difficulty [●○]{3}, importance [●○]{3}, \d+ minutes\.", text, flags=re.M)) == count
        assert text.count("<summary>Hint 1</summary>") == text.count("<summary>Hint 2</summary>") == count
        assert sum("### BEGIN SOLUTION" in cell.source for cell in cells) >= count


def test_lessons_link_to_their_exercises_and_say_the_minutes():
    for path in SOLUTIONS:
        text = path.read_text(encoding="utf-8")
        minutes = sum(map(int, re.findall(r"importance [●○]{3}, (\d+) minutes\.", text)))
        lesson = (make_exercises.NOTEBOOKS / path.name).read_text(encoding="utf-8")
        link = rf"\]\(exercises/{re.escape(path.name)}\)[^\n]*?about (\d+) minutes"
        assert re.findall(link, lesson) == [str(minutes)], path.name


def test_the_page_of_mistakes_is_what_the_checks_say():
    assert mistakes_table.PAGE.read_text(encoding="utf-8") == mistakes_table.page(), "run `make exercises`"


def test_a_check_says_what_a_thing_is_that_is_no_function_and_knows_its_names():
    for name in EXERCISES:
        right, says = getattr(check, name).judge(3)
        assert right is False and "TypeError" in says
    with pytest.raises(AttributeError, match="did you mean"):
        _ = getattr(check, EXERCISES[0] + "x")
