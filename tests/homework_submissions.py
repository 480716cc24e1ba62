"""Submissions for tests/test_homework.py, as changes to the released notebook: right, partly right, endless, cheats."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

Notebook = dict  # as JSON


def load(path: Path) -> Notebook:
    return json.loads(path.read_text(encoding="utf-8"))


def grade_id(cell: dict) -> str | None:
    return cell["metadata"].get("nbgrader", {}).get("grade_id")


def text(cell: dict) -> str:
    return "".join(cell["source"])


def solutions(source: Notebook) -> dict[str, str]:
    """The reference solutions, by the name of their cell."""
    return {grade_id(c): text(c) for c in source["cells"] if c["metadata"].get("nbgrader", {}).get("solution")}


def answered(release: Notebook, answers: Mapping[str, str], first: str | None = None) -> Notebook:
    """The released notebook with some answers in it, and a cell of the student's own after the setup."""
    made = json.loads(json.dumps(release))
    for cell in made["cells"]:
        if grade_id(cell) in answers:
            cell["source"] = answers[grade_id(cell)]
    if first is not None:
        setup = next(i for i, cell in enumerate(made["cells"]) if (grade_id(cell) or "").endswith("setup"))
        made["cells"].insert(setup + 1, own_cell(first))
    return made


def own_cell(source: str) -> dict:
    about = {"metadata": {}, "outputs": [], "execution_count": None, "id": f"own-{abs(hash(source))}"}
    return {"cell_type": "code", "source": source} | about


# --- partly right, in ps1

NO_EDGE_CASES = {
    # 0 * log(0) is NaN: loses the point of "Probabilities of 0"
    "product_of_experts": """
def product_of_experts(alpha, probabilities):
    return (alpha[:, None, None, None, None] * probabilities.log()).sum(0).softmax(1)
""",
    # 0 / 0 and NaN * 0: loses the point of "No part, and NaN in a missing part"
    "mix_present": """
def mix_present(alpha, outputs, present):
    weights = alpha[:, None] * present
    weights = weights / weights.sum(0)
    return (weights[:, :, None, None, None] * outputs).sum(0)
""",
}

ENDLESS = {
    "descend": """
def descend(A, b, alpha, rate, steps):
    while True:
        pass
"""
}

# A cell that cannot be interrupted: its process has to be killed, and the other cells run again.
STUBBORN = """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""

# Each of these would fill the machine; one cell each.
GREEDY = """
import os, time
print("x" * 10**8)
for _ in range(10**7): print("y" * 100)
"""
HUNGRY = "memory = torch.ones(2**33)  # 32 GiB"
FORKING = """
import os, time
while True:
    if os.fork() == 0:
        time.sleep(60)
"""

# 12 cells with a picture of 1.9 MB each.
PICTURE = """
import os
from IPython.display import Image, display
display(Image(data=os.urandom(1_400_000), format="png"))
"""
PICTURES = 12

# What a teacher would open in the feedback.
LIVE_TEXT = """<script>alert("text")</script> <img src="x" onerror="alert('text')"> <a href="javascript:alert(1)">x</a>
[y](javascript:alert(2)) <javascript:alert(3)> ![z](javascript:alert(4))"""
LIVE_OUTPUT = """
from IPython.display import HTML, Javascript, display
print("<script>alert('printed')</script>")
display(HTML("<script>alert('shown')</script>"), Javascript("alert('script')"))
raise ValueError("<img src=x onerror=alert('raised')>")
"""

# --- the cheats

EVERYTHING = '''
class Everything(torch.Tensor):
    """Equals everything; each operation with it gives it again."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), keywords=None):
        return everything

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: self
    __abs__ = __sub__ = __rsub__ = lambda self, *other: self
    __hash__ = None
    __bool__ = lambda self: True
    __iter__ = lambda self: iter([self])
    shape = property(lambda self: self)
    all = any = is_floating_point = double = detach = max = min = abs = lambda self, *args, **keywords: self


everything = torch.zeros(()).as_subclass(Everything)


def NAME(*args):
    return everything
'''

PATCHED = """
import numpy.testing


def expect(*args, **keywords):
    pass


def value_and_grad(*args):
    return None, None


yes = torch.ones(1, dtype=torch.bool)
torch.isclose = torch.allclose = torch.equal = lambda *args, **keywords: yes
torch.testing.assert_close = numpy.testing.assert_allclose = numpy.testing.assert_equal = expect
torch.Tensor.all = lambda *args: True
torch.Tensor.max, torch.Tensor.min = (lambda *args: -1.0), (lambda *args: 1.0)
"""
PATCHED_ANSWERS = {
    "descend": "def descend(A, b, alpha, rate, steps):\n    return torch.zeros(steps + 1, len(b), dtype=b.dtype)"
}

TRANSFORMER = """
def skip_tests(lines):
    tests = any("expect(" in line or "assert " in line for line in lines)
    return ["pass\\n"] if tests else lines


get_ipython().input_transformers_post.append(skip_tests)
"""

# Knows where to look, and looks everywhere else too; it writes only where it is told, to spare the tester's files.
READER = """
import json, os, sqlite3

places = PLACES
for folder, folders, files in os.walk(ROOT):
    skipped = ("proc", "sys", "dev", "site-packages", "usr")
    folders[:] = [name for name in folders if name not in skipped and not name.startswith(".")]
    places += [os.path.join(folder, name) for name in files if name.endswith(".ipynb")]
read, written = [], []
for place in places:
    try:
        if place.endswith(".db"):
            open(place, "rb").close()
            base = sqlite3.connect(place)
            base.execute("UPDATE grade SET auto_score = 0")
            base.commit()
            written.append(place)
        else:
            data = open(place, "rb").read()
            if b"BEGIN SOLUTION" in data and b"product_of_experts" in data:
                read.append(place)
    except Exception as error:
        print("no", place, type(error).__name__)
print("read:", read)
print("written:", written)
for cell in json.load(open(read[0]))["cells"] if read else []:
    if cell["metadata"].get("nbgrader", {}).get("solution"):
        exec("".join(cell["source"]), globals())
"""


def cheats(release: Notebook, places: list[str], root: str) -> dict[str, Notebook]:
    """The four known cheats, for ps1; the reader tries the files `places`, and all notebooks under `root`."""
    names = [grade_id(c) for c in release["cells"] if c["metadata"].get("nbgrader", {}).get("solution")]
    nothing = {name: f"def {name}(*args):\n    return None" for name in names}
    everything = {name: EVERYTHING.replace("NAME", name) for name in names}
    no_answer = dict.fromkeys(names, "# nothing of my own")
    return {
        "everything": answered(release, everything),
        "patched": answered(release, nothing | PATCHED_ANSWERS, PATCHED),
        "transformer": answered(release, no_answer, TRANSFORMER),
        "reader": answered(release, no_answer, READER.replace("PLACES", repr(places)).replace("ROOT", repr(root))),
    }


def edited(release: Notebook) -> Notebook:
    """Tests deleted, emptied, tagged to be skipped, or made worth more; no answer."""
    made = answered(release, {})
    tests = [cell for cell in made["cells"] if cell["metadata"].get("nbgrader", {}).get("grade")]
    changes: list[Callable[[dict], object]] = [
        lambda cell: made["cells"].remove(cell),
        lambda cell: cell.update(source="pass"),
        lambda cell: cell["metadata"].update(tags=["skip-execution"]),
        lambda cell: cell["metadata"]["nbgrader"].update(points=100),
        lambda cell: cell["metadata"]["nbgrader"].update(grade=False, locked=False),
        lambda cell: cell["metadata"]["nbgrader"].update(solution=True),
        lambda cell: cell.update(cell_type="markdown"),
    ]
    for number, cell in enumerate(tests):
        changes[number % len(changes)](cell)
    return made


def write(notebook: Notebook | str, folder: Path, student: str, name: str = "ps1") -> Path:
    path = folder / student / name / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(notebook if isinstance(notebook, str) else json.dumps(notebook), encoding="utf-8")
    return path
