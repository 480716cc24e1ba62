"""The table of claims: made from records, and README.md holds what they give now."""

import json
import re
from pathlib import Path

import pytest
from experiments import claims

from mtl_course import records
from mtl_course.__main__ import main

ROOT = Path(__file__).resolve().parents[1]


def judged(name, lesson="", **gains):
    """A record that judges C1, C2 ... by a list of gains each."""
    found = {claim: records.judge(g if isinstance(g, dict) else {"all": g}, "points") for claim, g in gains.items()}
    command = f"python -m mtl_course records run {name}"
    return {"claim": "x", "command": command, "lesson": lesson, "summary": {"claims": found}}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with three records that judge, one that does not, and lesson 07."""
    folder = tmp_path / "data" / "records"
    folder.mkdir(parents=True)
    monkeypatch.setenv("MTL_COURSE_RECORDS", str(folder))
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "07_help.ipynb").touch()
    (tmp_path / "README.md").write_text("before\n<!-- claims -->\nold\n<!-- /claims -->\nafter\n")
    up, none = [1, 2, 3, 2, 2], [-1, 2, 0, 1, -1]
    spread = {"a": none, "b": [0.1, 0.2, 0.3, 0.2, 0.2], "c": up, "d": [-5, -6, -5, -6, -5]}
    made = {
        "one": judged("one", "07", C1=up, C2=none),
        "two": judged("two", "08", C1=up, C2=up, C7=spread),
        "three": judged("three", C7=none),
        "tuning": {"claim": "x", "summary": {"chosen": 1}},
        "published": {"claim": "x"},
    }
    for name, record in made.items():
        (folder / f"{name}.json").write_text(json.dumps(record))
    return tmp_path


def rows(text):
    """The cells of each line of the table."""
    return [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("|")]


def test_verdicts_over_all_records_of_a_claim(root, capsys):
    assert main(["records", "claims"]) == 0
    text = capsys.readouterr().out
    bold = dict(re.findall(r"\*\*(C\d): .*?\*\* \| \*\*(.*?)\*\*", text))
    assert list(bold) == list(claims.CLAIMS) == sorted(bold)
    assert bold["C1"] == "holds" and bold["C2"] == "depends" and bold["C7"] == "depends"
    assert {bold[claim] for claim in ("C3", "C4", "C5", "C6", "C8")} == {"no record yet"}
    assert len({line.count(" |") for line in text.splitlines()}) == 1, "every row has as many cells"


def test_a_row_says_what_was_measured_where_and_how_to_repeat_it(root):
    row = next(row for row in rows(claims.table()) if row[0].startswith("[one]"))
    lesson = "[07](notebooks/07_help.ipynb)"
    effect = "all: +2.0 [+1.1, +2.9]"
    assert row == ["[one](data/records/one.json)", "holds", effect, "points", lesson, "`records run one`"]
    two = next(row for row in rows(claims.table()) if row[0].startswith("[two]"))
    assert two[4] == "08", "a lesson that is not there yet has no link"


def test_of_many_settings_three_are_shown(root):
    (cell,) = (row[2] for row in rows(claims.table()) if "smallest" in row[2])
    first, largest, smallest = cell.split("<br>")
    assert re.fullmatch(r"a: \+0\.2 \[-\S+, \+\S+\] \(first of 4\)", first)
    assert largest.startswith("c: +2.0 ") and largest.endswith("(largest of 4)")
    assert smallest.startswith("d: -5.4 ") and smallest.endswith("(smallest of 4)")


@pytest.mark.parametrize(
    ("mean", "half_width", "text"),
    [
        (4.21, 3.1, "+4.2 [+1.1, +7.3]"),
        (-0.0123, 0.0034, "-0.012 [-0.016, -0.009]"),
        (0.04, 0.06, "+0.04 [-0.02, +0.10]"),
        (-0.001, 2.0, "+0.0 [-2.0, +2.0]"),
        (12345.6, 1000.0, "+12,345.6 [+11,345.6, +13,345.6]"),
        (3.0, 0.0, "+3.0 [+3.0, +3.0]"),
        (4.77, 4.814, "+4.77 [-0.04, +9.58]"),  # a bound near 0 keeps its sign
    ],
)
def test_effects_are_short(mean, half_width, text):
    effect = {"mean": mean, "half_width": half_width, "low": mean - half_width, "high": mean + half_width}
    assert claims.effect_text(effect) == text


def test_write_changes_what_stands_between_the_marks_only(root, capsys):
    assert main(["records", "claims", "--write"]) == 0
    text = (root / "README.md").read_text()
    assert text == f"before\n<!-- claims -->\n{claims.table()}\n<!-- /claims -->\nafter\n"
    main(["records", "claims", "--write"])
    assert (root / "README.md").read_text() == text


@pytest.mark.parametrize("text", [None, "", "<!-- claims -->", "<!-- /claims --><!-- claims -->"])
def test_without_a_place_for_the_table(root, capsys, text):
    (root / "README.md").unlink() if text is None else (root / "README.md").write_text(text)
    assert main(["records", "claims", "--write"]) == 2 and "<!-- claims -->" in capsys.readouterr().err
    assert text is None or (root / "README.md").read_text() == text


def test_claims_takes_no_name(root, capsys):
    assert main(["records", "claims", "one"]) == 2 and "no name" in capsys.readouterr().err


def test_the_readme_holds_the_table_that_the_records_give():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    between = text.partition(claims.START)[2].partition(claims.END)[0].strip("\n")
    assert between == claims.table(), "python -m mtl_course records claims --write"
    judged_by_some = set()
    for path in records.folder().glob("*.json"):
        judged_by_some |= set(records.load(path.stem).get("summary", {}).get("claims", {}))
    waiting = set(re.findall(r"\*\*(C\d): .*?\*\* \| \*\*no record yet", text))
    assert waiting == set(claims.CLAIMS) - judged_by_some


def test_a_claim_that_the_course_does_not_make_is_named(root, capsys):
    (root / "data" / "records" / "mine.json").write_text(json.dumps(judged("mine", mine=[1, 2, 3])))
    assert main(["records", "claims"]) == 2
    said = capsys.readouterr().err
    assert "mine" in said and "C1" in said and said.count("\n") == 1
