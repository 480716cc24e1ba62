"""Chinese names: every word of lesson 00's table stands with its Chinese name where the lessons first use it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import words_table

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NO_PROSE = r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|^#.*?$"
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def texts(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def is_the_table(text: str) -> bool:
    return text.startswith("## The words")


def sentences(path: Path) -> Iterator[str]:
    """The prose of a lesson, by sentence, item of a list or row of a table; no headings, code or formulas."""
    for text in texts(path):
        if not is_the_table(text):
            text = re.sub(NO_PROSE, "", text, flags=re.S | re.M)
            for block in re.split(r"\n\s*\n|\n(?=[-|]|\d+\. )", text):
                yield from re.split(r"(?<=[.?!])[*)]* +(?=[A-Z*_\[(])", " ".join(block.split()))


def first_use(english: str) -> tuple[str, str]:
    """The number of the first lesson that has a word in its prose, and that sentence."""
    pattern = re.compile(rf"(?<![\w-]){re.escape(english)}(es|s|ing|ed|d)?(?!\w)".replace(r"\ ", " "), re.I)
    return next((path.name[:2], s) for path in LESSONS for s in sentences(path) if pattern.search(s))


def test_the_table_has_the_words_of_the_theory():
    english, chinese, lines, _ = zip(*words_table.words())
    assert len(set(english)) == len(set(chinese)) == len(english) >= 45 and all(lines)
    both = dict(zip(english, chinese))
    wanted = {"multi-task learning": "多任务学习", "image segmentation": "图像分割", "shared parameter": "共享参数"}
    wanted |= {"regulariser, Ω": "正则项", "transfer learning": "迁移学习", "hard sharing": "硬参数共享"}
    wanted |= {"soft sharing": "软参数共享", "gradient conflict": "梯度冲突", "Pareto front": "帕累托前沿"}
    wanted |= {"intersection over union, IoU": "交并比", "ignore label": "忽略标签", "mixture of experts": "混合专家"}
    assert wanted.items() <= both.items()


@pytest.mark.parametrize("row", words_table.words(), ids=lambda row: row[0])
def test_a_word_has_its_chinese_name_where_it_is_first_used(row):
    english, chinese, _, lesson = row
    first, sentence = first_use(english.split(",")[0])
    assert chinese.split(",")[0] in sentence, f"lesson {first}: {sentence}"
    assert lesson == first


def test_a_word_has_one_chinese_name_in_all_lessons():
    """`**word** (中文)` says the same everywhere as the table does."""
    named = {}
    for english, chinese, *_ in words_table.words():
        for one, name in zip(english.split(", "), chinese.split(", ")):
            named[one.lower()] = name
    given = [
        (path.name[:2], english.lower(), chinese)
        for path in LESSONS
        for text in texts(path)
        for english, chinese in re.findall(r"[*]*([A-Za-z][\w-]*(?: [a-z][\w-]*)*)[*]* \(([\u4e00-\u9fff]+)\)", text)
    ]
    assert len(given) > 100
    wrong = [
        (lesson, phrase, chinese)
        for lesson, phrase, chinese in given
        for english, name in named.items()
        if (phrase == english or phrase.endswith(f" {english}")) and name not in chinese
    ]
    assert wrong == []


def test_every_lesson_gives_chinese_names():
    counts = {path.name: len(CHINESE.findall(" ".join(sentences(path)))) for path in LESSONS}
    assert min(counts.values()) > 10, counts


def test_the_chinese_readme_has_the_same_table():
    assert words_table.PAGE.read_text(encoding="utf-8") == words_table.page(), "python tools/words_table.py"
