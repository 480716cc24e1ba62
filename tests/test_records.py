"""Records: a tiny experiment through the command line, its accidents, and every record that is in data/records."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from experiments import programs, provenance
from experiments.claims import CLAIMS

from mtl_course import records
from mtl_course.__main__ import main
from mtl_course.errors import CourseError, MissingFile

DATA = Path(__file__).resolve().parents[1] / "data" / "records"
PAIRS = sorted(path.stem for path in DATA.glob("[!_]*.py"))
COINS = re.search(r"```python\n(.*?)```", (DATA / "README.md").read_text(), re.DOTALL)[1]
STOP = 'from pathlib import Path\n\nSTOP = Path(__file__).with_name("stop")\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the experiment that data/records/README.md shows."""
    monkeypatch.setenv("MTL_COURSE_RECORDS", str(tmp_path))
    (tmp_path / "coins.py").write_text(COINS)
    return tmp_path


def call(capsys, *words):
    """Exit code and what was printed."""
    capsys.readouterr()
    code = main(["records", *words])
    said = capsys.readouterr()
    assert code != 2 or said.err.count("\n") == 1
    return code, said.out + said.err


def doctor(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def stopping(folder, error="KeyboardInterrupt"):
    """The experiment stops at (thousand, seed 1) while the file `stop` is there."""
    line = f'    if STOP.exists() and (arm, seed) == ("thousand", 1):\n        raise {error}\n'
    source = COINS.replace("    coins = ", line + "    coins = ", 1).replace("import torch\n", STOP + "import torch\n")
    (folder / "coins.py").write_text(source)
    (folder / "stop").touch()


def test_a_record_holds_every_run_and_all_that_repeats_it(folder, capsys):
    assert call(capsys, "run", "coins")[0] == 0
    record = records.load("coins")
    assert list(record) == list(provenance.FIELDS) and record["complete"] is True
    assert [(r["arm"], r["seed"]) for r in record["results"]] == [(a, s) for s in range(5) for a in ("ten", "thousand")]
    torch.manual_seed(3)
    expected = abs(torch.randint(0, 2, (10,)).double().mean().item() - 0.5)
    assert record["results"][6]["numbers"]["error"] == expected
    assert record["arms"] == {"ten": 10, "thousand": 1000} and record["seeds"] == [0, 1, 2, 3, 4]
    assert record["versions"]["torch"] == torch.__version__ and record["device"] == "cpu" and record["threads"] == 2
    assert record["command"] == "python -m mtl_course records run coins"
    assert record["seconds"] == pytest.approx(sum(r["seconds"] for r in record["results"]))
    errors = records.by_arm(record["results"], "error")
    assert record["summary"]["error"]["ten"]["mean"] == pytest.approx(sum(errors["ten"]) / 5)
    assert provenance.problems("coins") == [] and not (folder / ".coins.part").exists()


def test_results_do_not_depend_on_the_order_of_the_runs(folder, capsys):
    call(capsys, "run", "coins")
    straight = records.load("coins")["results"]
    call(capsys, "run", "coins", "--fresh", "--arms", "thousand")
    call(capsys, "run", "coins")
    again = records.load("coins")["results"]
    assert [r | {"seconds": 0} for r in straight] == [r | {"seconds": 0} for r in again]


def test_interrupted_then_resumed(folder, capsys):
    stopping(folder)
    code, said = call(capsys, "run", "coins")
    assert code == 130 and "whole" in said
    assert "partial (3 of 10 runs)" in call(capsys, "list")[1]
    with pytest.raises(MissingFile, match="records run coins"):
        records.load("coins")
    (folder / "stop").unlink()
    code, said = call(capsys, "run", "coins")
    assert code == 0 and "3 of 10 runs are there, going on" in said and said.count(" s\n") == 7
    assert provenance.problems("coins") == []
    assert "complete" in call(capsys, "list")[1]


def test_an_unfinished_new_run_leaves_the_finished_record(folder, capsys):
    call(capsys, "run", "coins")
    before = (folder / "coins.json").read_bytes()
    assert call(capsys, "run", "coins", "--fresh", "--arms", "ten")[0] == 0
    assert (folder / "coins.json").read_bytes() == before
    assert "partial (5 of 10 runs)" in call(capsys, "list")[1]
    assert json.loads((folder / ".coins.part").read_text())["complete"] is False
    assert call(capsys, "run", "coins")[1].count(" s\n") == 5


def test_a_fresh_run_that_is_stopped_at_once_does_not_go_back_to_the_old_results(folder, capsys):
    call(capsys, "run", "coins")
    stopping(folder)
    source = (folder / "coins.py").read_text().replace('("thousand", 1)', '("ten", 0)')
    (folder / "coins.py").write_text(source)
    assert call(capsys, "run", "coins", "--fresh")[0] == 130
    (folder / "stop").unlink()
    assert call(capsys, "run", "coins")[1].count(" s\n") == 10


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_a_real_ctrl_c(folder):
    slow = COINS.replace("    coins = ", "    import time; time.sleep(0.3)\n    coins = ", 1)
    (folder / "coins.py").write_text(slow)
    command = [sys.executable, "-m", "mtl_course", "records", "run", "coins"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (folder / ".coins.part").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in error
    assert 1 <= len(json.loads((folder / ".coins.part").read_text())["results"]) < 10
    assert not (folder / "coins.json").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(COINS[arm],)", "(COINS[arm] + 1,)"),
        ("1000", "2000"),
        ("randint(0, 2", "randint(0, 3"),
        ("- 0.5", "- 0.4"),
        ("run=run", "run=lambda arm, seed: {'error': float(seed)}"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_a_changed_program_is_refused(folder, capsys, old, new, finished):
    call(capsys, "run", "coins", *([] if finished else ["--arms", "ten"]))
    assert old in COINS
    (folder / "coins.py").write_text(COINS.replace(old, new))
    code, said = call(capsys, "run", "coins")
    assert code == 2 and "--fresh" in said and "program has changed" in said
    if finished:
        assert "its program has changed" in call(capsys, "list")[1] and call(capsys, "verify", "coins")[0] == 1
    assert call(capsys, "run", "coins", "--fresh")[0] == 0
    assert call(capsys, "verify", "coins")[0] == 0


def test_what_is_free_to_change_renews_the_record_without_runs(folder, capsys):
    call(capsys, "run", "coins")
    source = COINS.replace('"gain": gain', '"win": gain').replace("More coins give", "Many coins give")
    (folder / "coins.py").write_text(source.replace("range(5)", "range(6)"))
    code, said = call(capsys, "run", "coins")
    assert code == 0 and said.count(" s\n") == 2 and "10 of 12 runs are there" in said
    record = records.load("coins")
    assert "win" in record["summary"] and record["claim"].startswith("Many") and len(record["results"]) == 12
    (folder / "coins.py").write_text(source.replace("range(5)", "range(2)"))
    code, said = call(capsys, "run", "coins")
    assert code == 2 and "holds seeds that coins.py has no more" in said, "seeds are not chosen from"
    assert len(records.load("coins")["results"]) == 12


@pytest.mark.parametrize(
    ("field", "value"), [("arms", {"x": 1}), ("threads", 64), ("seconds", 1.0), ("protocol", "another")]
)
def test_a_record_whose_head_is_doctored_is_noticed(folder, capsys, field, value):
    call(capsys, "run", "coins")
    record = json.loads((folder / "coins.json").read_text())
    assert provenance.problems("coins") == []
    (folder / "coins.json").write_text(json.dumps(record | {field: value}))
    assert any(field in problem for problem in provenance.problems("coins"))


SIBLING = COINS.replace('"ten": 10', '"ten": TEN').replace(
    "from mtl_course", "from _coins import TEN\n\nfrom mtl_course"
)


def test_files_that_experiments_share(folder, capsys):
    """_NAME.py is no experiment; its text, and that of what it imports in turn, belongs to those that import it."""
    (folder / "coins.py").write_text(SIBLING)
    (folder / "_coins.py").write_text("from _metal import TEN\n")
    (folder / "_metal.py").write_text("TEN = 10\n")
    assert call(capsys, "run", "coins", "--arms", "ten")[0] == 0 and records.names() == ["coins"]
    assert not {"_coins", "_metal"} & set(sys.modules) and str(folder) not in sys.path
    (folder / "_metal.py").write_text("TEN = 10  # of gold\n")
    code, said = call(capsys, "run", "coins")
    assert code == 2 and "program has changed" in said
    call(capsys, "run", "coins", "--fresh")
    assert provenance.problems("coins") == []
    (folder / "_coins.py").write_text("from _metal import TEN\n\nTEN += 1\n")
    assert "coins.py has changed since" in provenance.problems("coins")
    (folder / "_silver.py").write_text("TEN = 11\n")
    (folder / "_coins.py").write_text("from _metal import TEN\n")
    assert provenance.problems("coins") == [], "a file that nothing imports"


def test_an_experiment_that_reads_another_record_waits_for_it(folder, capsys):
    (folder / "later.py").write_text(COINS.replace("COINS =", 'OTHER = records.load("coins")\nCOINS ='))
    assert re.search(r"later +waits +.*coins.json has not been made", call(capsys, "list")[1])
    code, said = call(capsys, "run", "later")
    assert code == 2 and "records run coins makes it" in said
    call(capsys, "run", "coins")
    assert call(capsys, "run", "later")[0] == 0


SAY = 'def say(gain: dict) -> str:\n    """The answer."""\n    return f"{gain[\'mean\']:.2f}"\n\n\nEXPERIMENT'


def test_the_words_of_a_summary_are_free(folder, capsys):
    """A lesson and functions after `summarise` may come and change; what `run` uses may not, wherever it stands."""
    call(capsys, "run", "coins")
    source = COINS.replace("EXPERIMENT", SAY).replace('"gain": gain', '"gain": gain, "said": say(gain)')
    source = source.replace("    arms=COINS", '    lesson="07",\n    arms=COINS')
    assert "say(gain)" in source and "lesson" in source
    for text in (source, source.replace(":.2f", ":.3f").replace('"07"', '"08"'), COINS):
        (folder / "coins.py").write_text(text)
        code, said = call(capsys, "run", "coins")
        assert code == 0 and " s\n" not in said and provenance.problems("coins") == []
        assert records.load("coins")["lesson"] == (re.findall(r'lesson="(\d+)"', text) or [""])[0]
    other = COINS.replace("(COINS[arm],)", "count(arm)").replace("EXPERIMENT", COUNT + SAY)
    (folder / "coins.py").write_text(other)
    call(capsys, "run", "coins", "--fresh")
    (folder / "coins.py").write_text(other.replace("+ 0", "+ 1"))
    assert call(capsys, "run", "coins")[0] == 2


COUNT = "def count(arm):\n    return (more(arm),)\n\n\ndef more(arm):\n    return COINS[arm] + 0\n\n\n"


def test_arms_with_other_seeds_are_not_paired():
    runs = [{"arm": arm, "seed": seed, "numbers": {"x": 1.0}} for arm, seed in (("a", 0), ("a", 1), ("b", 0))]
    with pytest.raises(CourseError, match="other seeds"):
        records.by_arm(runs, "x")
    assert records.by_arm(runs[::2], "x") == {"a": [1.0], "b": [1.0]}


def test_other_versions_stop_an_unfinished_run_only(folder, capsys, monkeypatch):
    call(capsys, "run", "coins", "--arms", "ten")
    monkeypatch.setattr("mtl_course.__version__", "9.9")
    code, said = call(capsys, "run", "coins")
    assert code == 2 and "versions" in said and "--fresh" in said
    call(capsys, "run", "coins", "--fresh")
    monkeypatch.setattr("mtl_course.__version__", "9.10")
    assert call(capsys, "run", "coins")[0] == 0
    assert records.load("coins")["versions"]["mtl_course"] == "9.9", "the runs were made with it"


def set_error(record):
    record["results"][0]["numbers"]["error"] += 0.01


def set_curve(record):
    record["results"][0]["numbers"]["curve"][2] += 1


def drop_number(record):
    del record["results"][9]["numbers"]["error"]


def drop_curve(record):
    del record["results"][0]["numbers"]["curve"]


def more_summary(record):
    record["summary"]["more"] = 1.0


def set_summary(record):
    record["summary"]["gain"]["mean"] += 0.001


def set_verdict(record):
    record["summary"]["verdict"] = "proven"


def drop_run(record):
    record["results"].pop(3)


def other_seeds(record):
    record["seeds"] = [0, 1, 2, 3, 5]


def other_claim(record):
    record["claim"] = "Coins are fair."


def unfinish(record):
    record["complete"] = False


def drop_field(record):
    del record["device"]


ACCIDENTS = [set_error, set_curve, drop_number, drop_curve, more_summary, set_summary, set_verdict]
ACCIDENTS += [drop_run, other_seeds, other_claim, unfinish, drop_field]


@pytest.mark.parametrize("part", ACCIDENTS)
def test_verify_finds_what_was_doctored(folder, capsys, part):
    call(capsys, "run", "coins")
    code, said = call(capsys, "verify", "coins")
    assert code == 0 and "verified" in said and "NOT" not in said and "differs" not in said
    doctor(folder / "coins.json", part)
    code, said = call(capsys, "verify", "coins")
    assert code == 1 and "NOT verified" in said
    if part in (set_error, set_curve):
        assert "differs" in said


def test_verify_keeps_to_the_tolerance_of_each_number(folder, capsys):
    (folder / "coins.py").write_text(COINS.replace('{"error": 1e-6}', '{"error": 0.02, "curve": 2}'))
    call(capsys, "run", "coins")
    doctor(folder / "coins.json", lambda r: (set_error(r), set_curve(r)))
    code, said = call(capsys, "verify", "coins")
    assert code == 1 and "differs" not in said, "the runs agree, and the summary does not follow"
    doctor(folder / "coins.json", lambda r: (set_error(r), set_error(r)))
    assert "differs" in call(capsys, "verify", "coins")[1]


def test_a_tolerance_by_the_last_part_of_a_name(folder, capsys):
    source = COINS.replace('"curve": coins', '"depth": {"error": 0.3, "time": 1.0}, "curve": coins')
    (folder / "coins.py").write_text(source.replace('{"error": 1e-6}', '{"error": 0.1, "depth.time": float("inf")}'))
    call(capsys, "run", "coins")

    def change(error):
        doctor(folder / "coins.json", lambda r: r["results"][0]["numbers"]["depth"].update(error=error, time=9.0))

    change(0.35)
    assert call(capsys, "verify", "coins")[0] == 0
    change(0.45)
    assert call(capsys, "verify", "coins")[0] == 1


def test_show_and_list(folder, capsys):
    assert "not run" in call(capsys, "list")[1]
    call(capsys, "run", "coins")
    code, said = call(capsys, "show", "coins")
    record = records.load("coins")
    assert code == 0 and record["claim"] in said and f"{record['summary']['error']['ten']['mean']:.5g}" in said
    assert re.search(r"error +thousand +\S+ +\S+ +5\n", said) and "curve" not in said
    (folder / "coins.py").unlink()
    assert "no program here" in call(capsys, "list")[1]
    assert call(capsys, "show", "coins")[0] == 0 and call(capsys, "verify", "coins")[0] == 2


def test_a_program_that_broke_after_its_record_was_made(folder, capsys):
    call(capsys, "run", "coins")
    (folder / "coins.py").write_text(COINS.replace("def run(", "def run(("))
    assert "damaged" in call(capsys, "list")[1] and call(capsys, "show", "coins")[0] == 0
    assert call(capsys, "verify", "coins")[0] == 2


def test_summarise_cannot_change_the_results(folder, capsys):
    line = '    error = records.by_arm(results, "error")'
    (folder / "coins.py").write_text(COINS.replace(line, line + "\n    results.clear()"))
    assert call(capsys, "run", "coins")[0] == 0
    assert len(records.load("coins")["results"]) == 10 and call(capsys, "verify", "coins")[0] == 0


@pytest.mark.parametrize("text", ["", "{", "{}", "[1, 2]", "\x00\x00", '{"results": '])
@pytest.mark.parametrize("file", ["coins.json", ".coins.part"])
def test_a_damaged_file(folder, capsys, text, file):
    (folder / file).write_text(text)
    code, said = call(capsys, "run", "coins")
    assert code == 2 and file in said and "--fresh" in said
    assert "damaged" in call(capsys, "list")[1]
    if file == "coins.json":
        assert call(capsys, "show", "coins")[0] == 2
    assert call(capsys, "run", "coins", "--fresh")[0] == 0 and call(capsys, "verify", "coins")[0] == 0


def test_names_that_are_not_known(folder, capsys):
    code, said = call(capsys, "show", "coin")
    assert code == 2 and "did you mean 'coins'" in said
    code, said = call(capsys, "run", "coins", "--arms", "tem")
    assert code == 2 and "did you mean 'ten'" in said
    assert call(capsys, "show", "coins")[0] == 2, "it has not been run"
    assert call(capsys, "run")[0] == 2 and call(capsys, "list", "coins")[0] == 2
    assert call(capsys, "show", "../coins")[0] == 2
    with pytest.raises(CourseError, match="did you mean 'coins'"):
        records.load("coin")


def test_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_COURSE_RECORDS", str(tmp_path / "none"))
    with pytest.raises(MissingFile, match="MTL_COURSE_RECORDS"):
        records.load("coins")


def test_a_package_without_the_folder_of_the_course(folder, capsys, monkeypatch):
    """What runs experiments is in tools, which an installed package does not have beside it; a lesson still reads."""
    assert call(capsys, "run", "coins")[0] == 0
    alone = folder / "site-packages" / "mtl_course" / "records" / "store.py"
    monkeypatch.setattr(records.store, "__file__", str(alone))
    with pytest.raises(CourseError, match="clone it"):
        records.program("coins")
    for words in (["list"], ["verify", "coins"]):
        code, said = call(capsys, *words)
        assert code == 2 and str(folder / "site-packages" / "tools") in said and "clone" in said
    assert len(records.load("coins")["results"]) == 10


def test_the_command_finds_the_tools_from_anywhere(folder, tmp_path):
    """In a process without pytest's path, in another folder, and twice: the tools are on the path once."""
    code = "import sys; from mtl_course.__main__ import main; [main(['records', 'list']) for _ in range(2)]; "
    code += f"print(sys.path.count({str(DATA.parents[1] / 'tools')!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("not run") == 2 and done.stdout.splitlines()[-1] == "1"


def test_the_folder_is_found_from_below(tmp_path, monkeypatch):
    monkeypatch.delenv("MTL_COURSE_RECORDS", raising=False)
    assert records.folder() == DATA
    monkeypatch.setattr(records.store, "__file__", str(tmp_path / "site" / "mtl_course" / "records" / "store.py"))
    (tmp_path / "data" / "records").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert records.folder() == tmp_path / "data" / "records"


def test_an_experiment_that_raises_keeps_the_runs_before_it(folder, capsys):
    stopping(folder, "RuntimeError('out of coins')")
    code, said = call(capsys, "run", "coins")
    line = (folder / "coins.py").read_text().splitlines().index("        raise RuntimeError('out of coins')") + 1
    assert code == 2 and "out of coins" in said and f"line {line}" in said and "'thousand' with seed 1" in said
    (folder / "stop").unlink()
    assert "3 of 10" in call(capsys, "run", "coins")[1]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('return {"error"', 'return 1, {"error"', "dict of numbers"),
        ("coins.cumsum(0)[:5]", "coins.cumsum", "numbers in dicts and lists"),
        ('"error")  #', '"eror")  #', "did you mean 'error'"),
        ("EXPERIMENT =", "OTHER =", "must define EXPERIMENT"),
        ("import torch", "import torhc", "torhc"),
        ("def run(", "def run((", "SyntaxError"),
    ],
)
def test_a_program_with_a_mistake_is_told_in_one_sentence(folder, capsys, old, new, expected):
    (folder / "coins.py").write_text(COINS.replace(old, new, 1))
    code, said = call(capsys, "run", "coins")
    assert code == 2 and "coins.py" in said and expected in said
    assert call(capsys, "list")[0] == 0
    (folder / "coins.py").write_text(COINS)


def test_numbers_that_are_not_finite_come_back(folder, capsys):
    (folder / "coins.py").write_text(
        COINS.replace("coins.cumsum(0)[:5]", "[1, float('nan'), float('inf')], 'n': coins[0] * float('nan')")
    )
    assert call(capsys, "run", "coins")[0] == 0
    numbers = records.load("coins")["results"][0]["numbers"]
    assert numbers["curve"][0] == 1 and math.isnan(numbers["curve"][1]) and numbers["curve"][2] == math.inf
    assert math.isnan(numbers["n"])
    assert call(capsys, "verify", "coins")[0] == 0 and re.search(r"n +ten +- +- +0", call(capsys, "show", "coins")[1])


def test_tensors_arrays_and_nested_dicts_become_plain_numbers(folder, capsys):
    more = "[], 'scores': {'depth': {'abs_error': np.float32(0.5)}}, 'grid': np.ones((1, 2)), 1: np.bool_(1)"
    source = COINS.replace("coins.cumsum(0)[:5]", more).replace("import torch", "import numpy as np\nimport torch")
    (folder / "coins.py").write_text(source)
    assert call(capsys, "run", "coins")[0] == 0
    numbers = records.load("coins")["results"][0]["numbers"]
    assert numbers["scores"] == {"depth": {"abs_error": 0.5}} and numbers["grid"] == [[1, 1]] and numbers["1"] is True
    assert records.by_arm(records.load("coins")["results"], "scores.depth.abs_error")["ten"] == [0.5] * 5
    assert "scores.depth.abs_error" in call(capsys, "show", "coins")[1]


def finished(name):
    """The record of an experiment; the test is skipped, with the reason, as long as there is none."""
    if not (DATA / f"{name}.json").exists():
        pytest.skip(f"{name} has no record yet: python -m mtl_course records run {name}")
    return records.load(name)


@pytest.mark.parametrize("name", PAIRS)
def test_every_record_follows_from_its_results(name):
    record = finished(name)
    assert list(record) == list(provenance.FIELDS) and record["complete"] is True
    assert [(r["arm"], r["seed"]) for r in record["results"]] == [
        (a, s) for s in record["seeds"] for a in record["arms"]
    ]
    assert all(record[field] for field in ("claim", "question", "protocol", "versions", "device", "summary"))
    assert provenance.problems(name) == []


@pytest.mark.parametrize("name", PAIRS)
def test_every_record_judges_a_claim(name):
    """Tunings choose and judge nothing; of the others the verdict follows, and the sentence says a number of it."""
    summary = finished(name)["summary"]
    if "tuning" in name:
        assert "claims" not in summary
        return
    assert summary["claims"] and set(summary["claims"]) <= set(CLAIMS)
    for claim in summary["claims"].values():
        check_claim(claim)


def check_claim(claim):
    """A verdict that follows from the effects, intervals around the means, and a sentence with the mean of one."""
    assert set(claim) == {"unit", "verdict", "effects", "sentence"} and claim["unit"]
    above = []
    for effect in claim["effects"].values():
        assert list(effect) == ["mean", "half_width", "low", "high", "bootstrap", "n"] and effect["n"] > 1
        assert effect["low"] == pytest.approx(effect["mean"] - effect["half_width"], abs=1e-9)
        assert effect["high"] == pytest.approx(effect["mean"] + effect["half_width"], abs=1e-9)
        assert effect["half_width"] >= 0 and effect["bootstrap"][0] <= effect["bootstrap"][1]
        above.append(effect["mean"] > effect["half_width"])
    assert claim["verdict"] == ("holds" if all(above) else "depends" if any(above) else "fails")
    means = [effect["mean"] for effect in claim["effects"].values()]
    if claim["unit"].startswith("log2"):  # a sentence says how many times, not how many doublings
        means += [2**mean for mean in means]
    assert any(says(claim["sentence"], mean) for mean in means), claim["sentence"]


def says(sentence, mean):
    """Whether a number with a point, or of two digits or more, is the mean as printed, whatever the sign."""
    texts = [text.replace(",", "") for text in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", sentence)]
    return any(f"{abs(mean):.{len(text.partition('.')[2])}f}" == text for text in texts if len(text) > 1)


def test_a_sentence_that_drifts_is_noticed():
    effects = {"a": [1.0, 2.0, 3.5], "b": [-2.0, 0.0, 1.0]}
    claim = records.judge(effects, "points")
    check_claim(claim | {"sentence": "a gains +2.2 points and b -0.3."})
    for wrong in ("a gains 2.3 points.", "a gains 2 points.", "a gains a lot."):
        with pytest.raises(AssertionError):
            check_claim(claim | {"sentence": wrong})
    with pytest.raises(AssertionError):
        check_claim(claim | {"sentence": "a gains +2.2 points", "verdict": "holds"})


@pytest.mark.parametrize("path", sorted(DATA.glob("*.json")), ids=lambda path: path.stem)
def test_every_record_can_be_shown(path, capsys):
    code, said = call(capsys, "show", path.stem)
    assert code == 0 and records.load(path.stem)["claim"] in said and re.search(r"^number +arm", said, re.MULTILINE)


def test_by_arm_pairs_by_seed():
    results = [
        {"arm": arm, "seed": seed, "numbers": {"depth": {"error": value}}}
        for arm, seed, value in (("b", 1, 4), ("a", 1, 2), ("a", 0, 1), ("b", 0, 3))
    ]
    assert records.by_arm(results, "depth.error") == {"b": [3, 4], "a": [1, 2]}
    for name in ("depth.eror", "depht", "depth.error.more"):
        with pytest.raises(CourseError, match="unknown part"):
            records.by_arm(results, name)


def test_the_readme_gives_the_sizes_that_the_experiments_have():
    """Its paragraphs on Scenes and Pascal VOC against the constants of the shared files."""
    with programs.siblings():
        import _protocol as scenes
        import _voc as voc
    text = " ".join((DATA / "README.md").read_text(encoding="utf-8").split())
    net, held_out = str(scenes.CHANNELS)[1:-1], (scenes.VALIDATION[0], scenes.TEST[0])
    for part in (
        f"{scenes.SIZE}×{scenes.SIZE} pixels; U-Net of {net} channels; {scenes.STEPS} steps of {scenes.BATCH} pictures",
        f"up to {scenes.POOL} pictures to train on; ",
        "choices on {} validation scenes, reports on {} test scenes".format(*held_out),
        f"fitted into {voc.SIZE}×{voc.SIZE}, mirrored or not",
        f"way up and heads are trained, {voc.DECODER_STEPS} steps of {scenes.BATCH}",
        f"from scratch, all of it, {voc.WHOLE_STEPS} steps",
    ):
        assert part in text
    assert len(voc.CLASSES) == 7 and "seven classes" in text


def test_arms_read_from_a_tuning_that_has_chosen_anew_are_refused(folder, capsys):
    """The program's text is the same, and its arms are not: results of both would be mixed."""
    (folder / "coins.json").unlink(missing_ok=True)
    source = COINS.replace('COINS = {"ten": 10, "thousand": 1000}', 'COINS = records.load("tuning")["summary"]')
    assert source != COINS
    (folder / "coins.py").write_text(source)
    (folder / "tuning.json").write_text('{"claim": "c", "summary": {"ten": 10, "thousand": 1000}}')
    assert call(capsys, "run", "coins", "--arms", "ten")[0] == 0
    (folder / "tuning.json").write_text('{"claim": "c", "summary": {"ten": 20, "thousand": 1000}}')
    code, said = call(capsys, "run", "coins")
    assert code == 2 and "arms have changed" in said and "--fresh" in said
    assert call(capsys, "run", "coins", "--fresh")[0] == 0 and records.load("coins")["arms"]["ten"] == 20
    (folder / "tuning.json").write_text('{"claim": "c", "summary": {"ten": 30, "thousand": 1000}}')
    assert call(capsys, "run", "coins")[0] == 2


def test_a_seed_that_comes_twice_is_refused(folder, capsys):
    (folder / "coins.py").write_text(COINS.replace("range(5)", "[0, 1, 1]"))
    code, said = call(capsys, "run", "coins")
    assert code == 2 and "comes twice" in said and "CourseError" not in said
