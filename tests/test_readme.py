"""README.md and README.zh-CN.md say what the lessons and records say; Binder and the container find what they need."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import readme_pictures
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
READMES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")}
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURE = re.compile(r"!\[([^]]*)\]\(([^)]+)\)")
VERDICTS = {"holds": "成立", "fails": "未成立", "depends": "视情况而定"}


def opening(path: Path) -> str:
    return "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])


def minutes(path: Path) -> tuple[str, str]:
    """What a lesson says at its top: minutes to read and to solve, and those of its exercise notebook."""
    text = opening(path)
    read = re.search(
        r"to read[^|]*\| (?:\d+ for the text, )?(\d+)|Read: (\d+)|to read (\d+)|(\d+) minutes to read", text
    )
    solve = re.search(r"to solve the exercises? \| (\d+)|Solve: (\d+)|solve the exercises (\d+)|(\d+) to solve", text)
    apart = re.search(r"exercise notebook\]\([^)]*\) \| (\d+)|(\d+) in the \[exercise notebook", text)
    first, second, third = (next(filter(None, found.groups())) if found else "" for found in (read, solve, apart))
    return f"{first} + {second}", third


def rows(text: str) -> dict[str, list[str]]:
    """The table of lessons, by file."""
    table = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line[:3] == "| ["]
    return {found[1]: row for row in table if (found := re.match(r"\[\d\d .*\]\(notebooks/(.*)\)", row[0]))}


def made_minutes(path: Path) -> str:
    """The sum of the minutes that an exercise notebook states, empty where a lesson has none."""
    notebook = ROOT / "notebooks" / "exercises" / path.name
    text = notebook.read_text(encoding="utf-8") if notebook.exists() else ""
    return str(sum(map(int, re.findall(r"importance [●○]{3}, (\d+) minutes\.", text))) or "")


@pytest.mark.parametrize("name", READMES)
def test_the_table_of_lessons_has_the_minutes_of_the_lessons(name):
    table = rows(READMES[name])
    assert sorted(table) == [path.name for path in LESSONS]
    for path in LESSONS:
        own, exercises = minutes(path)
        assert exercises == made_minutes(path), path.name
        link = f"[{exercises}](notebooks/exercises/{path.name})" if exercises else ""
        assert table[path.name][2:4] == [own, link], path.name
        assert table[path.name][0].startswith(f"[{path.name[:2]} ")


def test_both_languages_give_the_same_commands_links_and_pictures():
    english, chinese = READMES.values()
    indented = {line.split("#")[0].strip() for line in chinese.splitlines() if line.startswith("    ")} - {""}
    assert len(indented) > 15
    assert [line for line in indented if line not in english] == []
    assert "(README.zh-CN.md)" in english and "(README.md)" in chinese
    assert {file for _, file in PICTURE.findall(chinese)} == {file for _, file in PICTURE.findall(english)}
    links = [set(re.findall(r"\]\(([^)#]+)[^)]*\)", text)) for text in (chinese, english)]
    assert links[0] - links[1] == {"README.md"}


def test_the_chinese_verdicts_are_those_of_the_records():
    found = dict(re.findall(r"^\| \*\*(C\d): .*?\*\* \| \*\*(\w+)\*\*", READMES["README.md"], flags=re.M))
    told = dict(re.findall(r"^\| (C\d)：.*? \| (.*?) \|$", READMES["README.zh-CN.md"], flags=re.M))
    assert len(found) == 8 and told == {claim: VERDICTS[verdict] for claim, verdict in found.items()}


@pytest.mark.parametrize("name", READMES)
def test_pictures_are_small_and_said_in_words(name):
    pictures = PICTURE.findall(READMES[name])
    assert {Path(file).stem for _, file in pictures} == set(readme_pictures.DRAW)
    for alt, file in pictures:
        assert len(alt) > 20 and not alt.endswith(".png")
        assert (ROOT / file).stat().st_size < 300_000
        with Image.open(ROOT / file) as picture:
            assert picture.format == "PNG" and 600 <= picture.width <= 1600


def test_the_picture_of_the_claims_shows_the_records_of_today():
    with Image.open(readme_pictures.FOLDER / "claims.png") as picture:
        assert picture.info["Description"] == readme_pictures.fingerprint(), "python tools/readme_pictures.py claims"


def test_the_picture_of_the_claims_puts_each_effect_on_its_side(monkeypatch):
    drawn = []
    monkeypatch.setattr(readme_pictures, "_draw_effect", lambda ax, y, effect: drawn.append(effect))
    monkeypatch.setattr(readme_pictures.plt.Figure, "savefig", lambda *_, **__: None)
    readme_pictures.claims()
    readme_pictures.plt.close("all")
    counted = sum(len(many) for many in readme_pictures.effects().values())
    assert len(drawn) == counted > 50
    for effect in drawn:
        beyond = abs(readme_pictures._size(effect)) > 1
        assert beyond == (effect["low"] > 0 or effect["high"] < 0)


@pytest.mark.parametrize("row", readme_pictures.LESSONS, ids=lambda row: row[0])
def test_the_strip_finds_its_figures_in_the_lessons(row):
    assert min(readme_pictures.stored(*row[:2]).size) > 100


def test_readme_and_lessons_stand_in_the_order_that_works():
    for text, words in (
        (READMES["README.md"], "Quick start|Lessons|What you should know|Hardware|Other ways|Exercises|When something"),
        (READMES["README.zh-CN.md"], "快速开始|课程|需要的基础|硬件|其他运行方式|练习与答案|遇到问题时|用于教学"),
    ):
        places = [text.index(f"\n## {word}") for word in words.split("|")]
        assert places == sorted(places)
        assert len(re.findall(r"^[1-9]\. \*\*", text, flags=re.M)) == 5


def test_binder_installs_the_course_and_nothing_else():
    """environment.yml brings the packages in tested versions; postBuild must not change them."""
    script = ROOT / "postBuild"
    assert os.access(script, os.X_OK) and script.read_text().startswith("#!/bin/sh\n")
    listed = subprocess.run(["git", "ls-files", "-s", "postBuild"], cwd=ROOT, capture_output=True, text=True).stdout
    assert listed[:6] in ("100755", ""), "git would hand it out without the right to run"
    commands = [line for line in script.read_text().splitlines() if line and line[0] != "#"]
    assert commands == ["set -e", "pip install --no-deps -e ."]
    assert not (ROOT / "binder").exists() and not (ROOT / ".binder").exists(), "else Binder ignores both files"


def test_the_container_makes_the_environment_and_shows_jupyterlab():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    tested = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (version,) = re.findall(r"/python:(3\.\d+)$", container["image"])
    assert f'"{version}"' in tested, "a Python that the workflow tests"
    target = container["postCreateCommand"].removeprefix("make ")
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.M)
    assert container["forwardPorts"] == [8888]
    vscode = container["customizations"]["vscode"]
    assert {"ms-python.python", "ms-toolsai.jupyter"} <= set(vscode["extensions"])
    assert vscode["settings"]["python.defaultInterpreterPath"].endswith("/.venv/bin/python")
