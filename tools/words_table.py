"""Write lesson 00's table of words, Chinese first, into README.zh-CN.md: python tools/words_table.py"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "README.zh-CN.md"
START, END = "<!-- words -->\n", "<!-- /words -->"


def words() -> list[list[str]]:
    """The rows of the table: English names, Chinese names, what it is, the number of the lesson that uses it first."""
    cells = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))["cells"]
    (text,) = (text for cell in cells if (text := "".join(cell["source"])).startswith("## The words"))
    head, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line[:1] == "|"]
    if head != ["English", "中文", "in one line", "lesson"]:
        raise SystemExit(f"lesson 00's table of words should have English, 中文, in one line, lesson, and has {head}")
    return rows


def page() -> str:
    """The Chinese README with the table as lesson 00 has it now."""
    lines = ["| 中文 | English | 课 |", "| --- | --- | --- |"]
    for english, chinese, _, lesson in words():
        (path,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
        lines.append(f"| {chinese} | {english} | [{lesson}](notebooks/{path.name}) |")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    return before + START + "\n".join(lines) + "\n" + END + rest.partition(END)[2]


def main() -> int:
    """Renew the page."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
