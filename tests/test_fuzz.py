"""Damaged files of every kind that the course reads: a right result, or one sentence that names the file.

Never another exception, a warning, more than 30 seconds or more than 1 GB. tests/fuzz_files.py makes and reads them, in
a process of its own, so that a hang and a memory bomb are caught too, and the case that made them is known.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import fuzz_files
import pytest
import torch
from PIL import ExifTags, Image
from torchvision import tv_tensors

from mtl_course import tasks
from mtl_course.commands.options import read_yaml
from mtl_course.datasets import joint_transform, reading
from mtl_course.errors import CourseError

HERE = Path(__file__).parent
KINDS = ("pictures", "checkpoint", "state", "classes", "split", "config", "record", "areas")
# What every kind must also have given: that the files are really read, and really damaged.
FEWEST = {"result": 0.03, "sentences": 0.2}


def fuzz(kinds, count, folder, limit):
    """What became of cases 0 to count - 1 of some kinds: {kind: [rows]}, and the memory in use before."""
    command = [sys.executable, str(HERE / "fuzz_files.py"), ",".join(kinds), "0", str(count), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment)
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        code, out, err = "none, it ran too long", (error.stdout or b"").decode(), (error.stderr or b"").decode()
    rows = [json.loads(line) for line in out.splitlines()]
    last = {name: rows[-1].get(name) for name in ("kind", "begins", "ends")} if rows else {}
    assert code == 0, f"exit code {code} after {last}: a hang or a crash of the process\n{err[-3000:]}"
    assert not err, f"nothing but exceptions may be said: {err[:500]}"
    return {kind: [row for row in rows if row.get("kind") == kind and "ends" in row] for kind in kinds}, rows[0][
        "starts"
    ]


def check(rows, count, memory_before):
    faults = {found: row["ends"] for row in rows for found in row["found"] if found.startswith("FAULT")}
    assert not faults, f"case of each fault: {faults}"
    assert len(rows) == count
    assert max(row["peak"] for row in rows) - memory_before < 2**30
    found = Counter("result" if one == "result" else "sentences" for row in rows for one in row["found"])
    assert all(found[what] >= share * found.total() for what, share in FEWEST.items()), found


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    return fuzz(KINDS, 100, tmp_path_factory.mktemp("fuzz"), limit=300)


@pytest.mark.parametrize("kind", KINDS)
def test_100_damaged_files(hundred, kind):
    check(hundred[0][kind], 100, hundred[1])


@pytest.mark.long
@pytest.mark.parametrize(("kind", "count"), [(kind, 2000 if kind == "pictures" else 1000) for kind in KINDS])
def test_thousands_of_damaged_files(kind, count, tmp_path):
    """With -s it also tells what they gave, the slowest case and the memory."""
    rows, before = fuzz([kind], count, tmp_path, limit=1200)
    check(rows[kind], count, before)
    for found, number in Counter(one for row in rows[kind] for one in row["found"]).most_common():
        print(f"{number:6} {found}")
    slowest = max(rows[kind], key=lambda row: row["seconds"])
    more = (max(row["peak"] for row in rows[kind]) - before) / 2**20
    seconds = sum(row["seconds"] for row in rows[kind])
    slow = f"slowest {slowest['seconds']:.2f} s (case {slowest['ends']})"
    print(f"{count} files of {kind}: {seconds:.1f} s, {slow}, memory +{more:.0f} MB over {before / 2**20:.0f} MB")


def test_the_process_notices_what_must_not_be(tmp_path):
    """A reader that warns, raises, hangs, takes memory, or gives something else than promised."""
    code = f"""
import sys, warnings
sys.path[:0] = [{str(HERE)!r}]
import fuzz_files
def warn(): warnings.warn("odd")
def greedy(): bytearray(2 * 2**30)
def wrong(): fuzz_files.of_mask(fuzz_files.np.full((2, 2), 99, "uint8"))
def unnamed(): raise fuzz_files.CourseError("a sentence without a file")
def broken(): raise fuzz_files.CourseError(str(fuzz_files.Path(sys.argv[1])) + chr(10)) if False else KeyError("x")
class Bad(fuzz_files.Classes):
    def calls(self, path, index):
        yield from (warn, greedy, wrong, unnamed, broken)
        if index:
            yield lambda: fuzz_files.time.sleep(60)
fuzz_files.KINDS["bad"], fuzz_files.SECONDS = Bad, 2
fuzz_files.run("bad", 0, 2, fuzz_files.Path(sys.argv[1]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    words = ("warning: odd", "MemoryError", "AssertionError", "no sentence with the file", "KeyError")
    assert all(found.startswith(f"FAULT {word}") for found, word in zip(rows[2]["found"], words, strict=True)), rows[2]
    assert done.returncode != 0 and rows[-1]["begins"] == 1 and "Timeout" in done.stderr


# What the fuzz and the properties found, each by its smallest example.


def test_a_picture_becomes_a_single_pixel():
    """torch's resize of three planes of bytes to 1 x 1 fails an assertion of its own."""
    for shape in ((2, 1), (1, 2), (64, 7)):
        image = tv_tensors.Image(torch.full((3, *shape), 77, dtype=torch.uint8))
        for augment in (False, True):
            found = joint_transform(1, augment)(image)
            assert found.shape == (3, 1, 1) and abs(float(found.mean()) - 77 / 255) < 0.01


def test_a_large_mask_in_colours_takes_little_memory(tmp_path):
    """Once it was 30 bytes a pixel, 2 GB for the 64 million that are read at most."""
    Image.new("RGB", (4000, 4000)).save(tmp_path / "m.png")
    code = (
        "import resource, sys; from pathlib import Path; from mtl_course.datasets.reading import read_mask\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak()\n"
        "assert read_mask(Path(sys.argv[1]), 21).shape == (4000, 4000); print((peak() - before) * 1024 / 4000**2)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.png")], capture_output=True, text=True)
    assert done.returncode == 0 and float(done.stdout) < 20, done.stdout + done.stderr


def test_a_picture_with_damaged_exif_is_read_without_a_warning(tmp_path, recwarn):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (4, 3)).save(tmp_path / "a.jpg", exif=exif)
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content.replace(exif.tobytes()[6:], exif.tobytes()[6:][:-6] + bytes([255] * 6)))
    assert reading.read_picture(tmp_path / "a.jpg").shape[2] == 3 and not recwarn.list


def test_a_png_without_its_palette_is_refused(tmp_path):
    """With a transparent colour Pillow raises an AssertionError."""
    Image.new("P", (4, 3)).save(tmp_path / "a.png", transparency=bytes([0, 9]))
    content = (tmp_path / "a.png").read_bytes()
    chunks = [chunk for chunk in fuzz_files.png_chunks(content) if chunk[0] != b"PLTE"]
    (tmp_path / "a.png").write_bytes(fuzz_files.png_bytes(chunks))
    with pytest.raises(CourseError, match="a.png: cannot be decoded"):
        reading.read_picture(tmp_path / "a.png")


def test_a_config_of_brackets_is_refused_at_once(tmp_path):
    """yaml's time grows with the square of their number: half a minute for these, hours for a million."""
    (tmp_path / "config.yaml").write_text("[" * 60_000)
    start = time.perf_counter()
    with pytest.raises(CourseError, match="config.yaml is damaged .more than 16 kB"):
        read_yaml(tmp_path / "config.yaml")
    assert time.perf_counter() - start < 2


def test_a_sentence_stays_one_line():
    """Names from files may hold line feeds and escape codes, which would write what they like to a terminal."""
    error = CourseError("a\nb\x1b[31m\u2028: é 猫")
    assert str(error) == r"a\nb\x1b[31m\u2028: é 猫" and str(CourseError(str(error))) == str(error)


@pytest.mark.parametrize(
    ("name", "classes"), [("", "ab"), ("a.b", "ab"), ("../x", "ab"), ("type", "ab"), ("a", ["a\n", "b"])]
)
def test_names_that_no_checkpoint_can_hold_are_refused_when_a_task_is_made(name, classes):
    with pytest.raises(CourseError, match="names are printable text"):
        tasks.semantic(classes, name)
