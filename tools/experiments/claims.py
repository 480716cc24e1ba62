"""python -m mtl_course records claims: what the course found about each claim, as a table for README.md."""

import math
from pathlib import Path

from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.files import write_whole
from mtl_course.records import store

CLAIMS = {
    "C1": "Sharing raises performance.",
    "C2": "Sharing needs less labelled data.",
    "C3": "Sharing saves compute.",
    "C4": "Sharing helps to represent structure and relations with few data.",
    "C5": "Sharing does not help when the tasks are unrelated, and can hurt.",
    "C6": "Multi-task learning is not transfer learning.",
    "C7": "The weights α matter.",
    "C8": "Ω controls complexity.",
}
HEAD = ("Claim, and its records", "Verdict", "Effect: mean [95 % interval]", "Unit", "Lesson", "Command")
START, END = "<!-- claims -->", "<!-- /claims -->"


def claims(write: bool = False) -> None:
    """Print the table of claims, or write it into README.md between its marks.

    Raises:
        CourseError: if README.md is not two folders above the records, or has no marks.
    """
    if not write:
        print(table())
        return
    readme = _root() / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise CourseError(f"{readme} lacks {START} and {END}: put them where the table shall stand")
    write_whole(readme, f"{before}{START}\n{table()}\n{END}{after}".encode())
    print(f"the table is in {readme}")


def table() -> str:
    """The table in Markdown: of each claim the verdict over all its records, then a row a record."""
    found: dict[str, list[list[str]]] = {claim: [] for claim in CLAIMS}
    for path in sorted(store.folder().glob("[!._]*.json")):
        record = store.read(path)
        for claim, judged in record.get("summary", {}).get("claims", {}).items():
            refuse_unknown(f"claim in {path.name}", [claim], CLAIMS)
            found[claim].append([f"[{path.stem}](data/records/{path.name})", *_row(record, judged)])
    lines = [HEAD, ["---"] * len(HEAD)]
    for claim, rows in found.items():
        verdict = overall([row[1] for row in rows])
        lines += [[f"**{claim}: {CLAIMS[claim]}**", f"**{verdict}**", *[""] * (len(HEAD) - 2)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(record: dict, judged: dict) -> list[str]:
    command = record["command"].removeprefix("python -m mtl_course ")
    effects = _effects(judged["effects"])
    return [judged["verdict"], effects, judged["unit"], _lesson(record.get("lesson", "")), f"`{command}`"]


def overall(verdicts: list[str]) -> str:
    """The verdict over several records: what all say, else that it depends."""
    if not verdicts:
        return "no record yet"
    return verdicts[0] if len(set(verdicts)) == 1 else "depends"


def _effects(effects: dict[str, dict]) -> str:
    """Every setting, or of more than three the first and those of the largest and the smallest mean."""
    names, roles = list(effects), {}
    if len(names) > 3:
        by_mean = sorted(names, key=lambda name: effects[name]["mean"])
        for name, role in ((names[0], "first"), (by_mean[-1], "largest"), (by_mean[0], "smallest")):
            roles.setdefault(name, []).append(role)
    shown = {name: f" ({', '.join(roles[name])} of {len(names)})" if roles else "" for name in roles or names}
    return "<br>".join(f"{name}: {effect_text(effects[name])}{role}" for name, role in shown.items()).replace("|", "/")


def effect_text(effect: dict[str, float]) -> str:
    """Mean and interval with one to three digits, as many as the half width asks for: +4.2 [+1.1, +7.3]."""
    half_width = effect["half_width"]
    digits = min(max(1, -math.floor(math.log10(half_width))), 3) if half_width else 1
    # A bound that would read 0.0 gets more digits, since its sign is the verdict.
    while digits < 3 and any(effect[key] and not round(effect[key], digits) for key in ("low", "high")):
        digits += 1
    mean, low, high = (f"{round(effect[key], digits) + 0.0:+,.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _lesson(number: str) -> str:
    path = next((_root() / "notebooks").glob(f"{number}_*.ipynb"), None) if number else None
    return f"[{number}](notebooks/{path.name})" if path else number


def _root() -> Path:
    return store.folder().resolve().parent.parent
