"""Write notebooks/MISTAKES.md, what the checks say to the wrong answers in tests: python tools/mistakes_table.py"""

import importlib
import pkgutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "notebooks" / "MISTAKES.md"
HEAD = """# What the checks say

Every wrong answer that the tests hold against the checks (`tests/answers`), with the sentence that students read.
`python tools/mistakes_table.py` makes this page; a test compares. What follows "is expected." differs by case.
"""


def page() -> str:
    """The page, from what the checks say now."""
    sys.path.insert(0, str(ROOT / "tests"))
    import answers

    from mtl_course.exercises import check

    modules = sorted(found.name for found in pkgutil.iter_modules(answers.__path__))
    for name in modules:
        importlib.import_module(f"answers.{name}")
    parts = [HEAD]
    for exercise, wrong in answers.WRONG.items():
        understood = getattr(check, exercise).sentences()[0]
        parts.append(f"\n## {exercise}\n\n{understood}\n\n| Wrong answer | The check says |\n| --- | --- |\n")
        for function, _ in wrong:
            said, found, _ = getattr(check, exercise).judge(function)[1].partition(" is expected.")
            text = f"{said}{found}".replace("|", "\\|").replace("<", "&lt;")
            parts.append(f"| {function.__name__.replace('_', ' ')} | {text} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
