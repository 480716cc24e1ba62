"""The repository keeps its promises: one list of packages, notebooks ready to read, links that lead somewhere."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import check_notebooks
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mtl_course.commands.options import SIZES

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = check_notebooks.committed()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# A home folder and the like, which exists on one machine only; after a letter it is part of a URL.
ONE_MACHINE = re.compile(r"(?<![\w.~}])(/(home|Users|root|work|mnt|media)/\w|[A-Z]:\\\\?Users)")
SKIPPED = {".png", ".jpg", ".safetensors", ".gz"}


def tracked() -> list[Path]:
    answer = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if answer.returncode:
        pytest.skip("this is not a git checkout")
    return [path for line in answer.stdout.splitlines() if (path := ROOT / line).is_file()]


def test_environment_yml_lists_the_packages_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert re.fullmatch(r"python=3\.\d+", conda[0]), "repo2docker wants python named exactly"
    assert pip["pip"] == [
        "-c constraints.txt",
        *PROJECT["dependencies"],
        *EXTRAS["test"],
        *EXTRAS["photos"],
        *EXTRAS["weights"],
    ]


def test_constraints_pin_what_the_tests_use():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = {canonicalize_name(Requirement(line).name) for line in lines}
    wanted = [
        *PROJECT["dependencies"],
        *EXTRAS["test"],
        *EXTRAS["photos"],
        *EXTRAS["weights"],
        *EXTRAS["dev"],
        *EXTRAS["classroom"],
        *EXTRAS["site"],
    ]
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= pins
    assert not [pin for pin in pins if pin.startswith(("nvidia", "cuda", "triton"))]


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64", "arm64"])
def test_constraints_name_one_torch_for_each_processor(machine):
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch")]
    chosen = [
        r.name for r in map(Requirement, lines) if not r.marker or r.marker.evaluate({"platform_machine": machine})
    ]
    assert sorted(chosen) == ["torch", "torchjd", "torchmetrics", "torchvision"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_target():
    targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    command = ["make", "--no-print-directory", "help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in shown.splitlines()] == targets
    assert {
        "lab",
        "test",
        "test-unit",
        "test-notebooks",
        "test-browser",
        "test-exercises",
        "test-homework",
        "test-long",
        "test-all",
    } <= set(targets)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_notebook_is_ready_to_commit(path):
    assert check_notebooks.problems(path) == []


def test_no_file_names_a_folder_of_one_machine():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        if path.suffix not in SKIPPED
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if "ONE_MACHINE" not in line and "/elsewhere" not in line and ONE_MACHINE.search(line[:2000])
    ]
    assert found == []


def links(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    targets = re.findall(r"\]\(<?([^)\s>]+)>?\)", text) + re.findall(r"""(?:src|href)=["']([^"']+)""", text)
    return [target for target in targets if not re.match(r"[a-z]+:|#", target)]


@pytest.mark.parametrize(
    "path", [*sorted(ROOT.glob("*.md")), ROOT / "data/README.md", *NOTEBOOKS], ids=lambda p: str(p.relative_to(ROOT))
)
def test_relative_links_lead_to_files(path):
    missing = [target for target in links(path) if not (path.parent / target.partition("#")[0]).exists()]
    assert missing == []


def lessons_named(text: str) -> set[str]:
    """The numbers in "Lessons 00 to 04, 07 and 11", from every entry of a list that speaks of lessons."""
    found = set()
    for entry in re.split(r"^- ", text, flags=re.MULTILINE):
        if "esson" in entry:
            found |= set(re.findall(r"\b\d\d\b", entry))
            for first, last in re.findall(r"\b(\d\d) to (\d\d)\b", entry):
                found |= {f"{number:02}" for number in range(int(first), int(last) + 1)}
    return found


def test_each_lesson_stands_where_readers_look():
    """And in the tables of both READMEs, see tests/test_readme.py."""
    teaching = (ROOT / "notebooks" / "TEACHING.md").read_text(encoding="utf-8")
    start = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))
    the_map = "".join("".join(cell["source"]) for cell in start["cells"] if cell["cell_type"] == "markdown")
    changes = lessons_named((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    missing = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        number = path.name[:2]
        places = {
            "notebooks/TEACHING.md": f"\n### {number} " in teaching,
            "notebooks/00_start_here.ipynb": f"]({path.name}) |" in the_map or number == "00",
            "CHANGELOG.md": number in changes,
        }
        missing += [f"{path.name} is not in {place}" for place, there in places.items() if not there]
    assert not missing, "\n".join(missing)


def test_each_data_set_has_a_test_and_its_origin():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert {"scenes", "voc", "folder"} <= set(SIZES)
    missing = [f"tests/test_{name}.py" for name in SIZES if not (ROOT / f"tests/test_{name}.py").is_file()]
    missing += [f"{name} in data/README.md" for name in SIZES if not re.search(rf"\b{name}\b", readme, re.IGNORECASE)]
    assert not missing, "\n".join(missing)


def test_the_code_of_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    result = {}
    exec(code, result)
    assert result["alpha"].shape == (2,) and (result["alpha"] >= 1).all()


def test_the_teacher_reads_what_was_measured():
    """The figures of notebooks/TEACHING.md for one student are those of benchmarks/RESULTS.md."""
    section = (ROOT / "benchmarks" / "RESULTS.md").read_text().split("## One student\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:5]]
        for line in section.splitlines()
        if re.match(r"\| \S*\d\d_", line)
    ]
    lessons = {name: (int(own), int(shared), int(seconds)) for name, own, shared, seconds in rows}
    exercises = [lessons.pop(name) for name in list(lessons) if name.startswith("exercises")]
    assert len(lessons) == 12 and len(exercises) == 10
    memory, time = (max(lessons, key=lambda name: lessons[name][place]) for place in (0, 2))
    others = [row for name, row in lessons.items() if name not in (memory, time)]
    text = (ROOT / "notebooks" / "TEACHING.md").read_text()
    own, shared, _ = lessons[memory]
    assert f"[{memory[:2]}]({memory}.ipynb), which starts" in text and f"{own} MB of its own, {shared} MB with" in text
    assert f"[{time[:2]}]({time}.ipynb), which trains | {lessons[time][2]} s of one core" in text
    for found in (others, exercises):
        own, _, seconds = zip(*found)
        assert f"| {min(own)} to {max(own)} MB, {min(seconds)} to {max(seconds)} s |" in text
