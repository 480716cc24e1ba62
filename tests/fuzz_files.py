"""Damaged files and a process that reads them: python tests/fuzz_files.py KINDS FIRST COUNT FOLDER.

Case i of a kind follows from (kind, i) alone, so a case that fails is made again by `KIND i 1 FOLDER`; its file is then
in the folder. The process writes a line of JSON before and after each case; tests/test_fuzz.py starts it, gives it
time, and looks at the lines.
"""

import argparse
import faulthandler
import hashlib
import io
import json
import random
import re
import resource
import struct
import time
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import ExifTags, Image
from voc_fixture import draw, write_devkit

from mtl_course import models, tasks, training
from mtl_course.__main__ import main, parse
from mtl_course.commands.options import recall
from mtl_course.datasets import Folder, reading, voc
from mtl_course.errors import CourseError
from mtl_course.records import store
from mtl_course.training.state import read_state, write_state

SECONDS, ROOM = 30, 2**30  # for a case; memory that a process may take on top of what it starts with
SIZE = (24, 18)  # width and height of the pictures
RUN = {"tasks": ["semantic", "depth"], "epochs": 3, "rule": "equal"}
SMALL, HUGE = (0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 255), (2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)

# Damage to any bytes. Each function takes the random generator and bytes, and gives bytes.


def flip(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 30])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def cut(rng, data):
    return data[: rng.randrange(len(data))]


def drop(rng, data):
    start, length = rng.randrange(len(data)), rng.choice([1, 2, 10, len(data) // 3 + 1])
    return data[:start] + data[start + length :]


def repeat(rng, data):
    start, length = rng.randrange(len(data)), rng.choice([1, 4, 20, len(data)])
    return data[: start + length] + data[start : start + length] * rng.choice([1, 1, 50]) + data[start + length :]


def insert(rng, data):
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(rng.choice([1, 4, 100])) + data[start:]


def blank(rng, data):
    start, length = rng.randrange(len(data)), rng.choice([2, 8, 64])
    return data[:start] + rng.choice([b"\0", b"\xff"]) * length + data[start + length :]


def field(rng, data):
    """A number of 1, 2, 4 or 8 bytes gets an odd value."""
    kind, bits = rng.choice([("B", 8), (">H", 16), ("<H", 16), (">I", 32), ("<I", 32), ("<Q", 64)])
    value, start = struct.pack(kind, rng.choice(SMALL + HUGE) % 2**bits), rng.randrange(len(data))
    return data[:start] + value + data[start + len(value) :]


def noise(rng, data):
    """Nothing but the beginning is left."""
    return data[: rng.choice([0, 2, 8, 33, 100])] + rng.randbytes(rng.choice([1, 50, 2000]))


GENERIC = (flip, flip, flip, cut, cut, drop, repeat, insert, blank, field, field, noise)

# Damage that knows the format, so that what lies behind checksums and lengths is reached.


def png_chunks(data):
    chunks, at = [], 8
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png_bytes(chunks):
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_content(rng, chunks):
    """The content of a chunk damaged, its checksum right again."""
    at = rng.randrange(len(chunks))
    kind, content = chunks[at]
    rows = b""
    if kind == b"IDAT" and rng.random() < 0.6:
        with suppress(zlib.error):
            rows = zlib.decompress(content)
    damaged = rng.choice(GENERIC)(rng, rows or content or b"\0")
    chunks[at] = kind, zlib.compress(damaged) if rows else damaged
    return chunks


def png_header(rng, chunks):
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    at = rng.randrange(7)
    if at < 2:
        pair = [width, height]
        pair[at] = rng.choice([0, 1, pair[at] - 1, pair[at] + 1, 7999, 63_000, 10**6, *HUGE])
        width, height = pair
    else:
        rest[at - 2] = rng.choice(SMALL)
    return [(b"IHDR", struct.pack(">IIBBBBB", width, height, *rest)), *chunks[1:]]


def png_order(rng, chunks):
    one, two = rng.randrange(len(chunks)), rng.randrange(len(chunks))
    change = rng.randrange(3)
    if change == 0:
        del chunks[one]
    elif change == 1:
        chunks.insert(two, chunks[one])
    else:
        chunks[one], chunks[two] = chunks[two], chunks[one]
    return chunks


EXTRA = (
    (b"zTXt", b"k\0\0" + zlib.compress(b"x" * 10**7)), (b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"y" * 10**7)),
    (b"iCCP", b"p\0\0" + zlib.compress(b"z" * 10**7)), (b"acTL", struct.pack(">II", 2**31, 0)), (b"tRNS", b""),
    (b"fcTL", bytes(26)), (b"fdAT", bytes(9)), (b"eXIf", b"II*\0\xff\xff\xff\xff"), (b"PLTE", b"\1\2"), (b"tEXt", b"k"),
    (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"), (b"IHDR", bytes(13)), (b"IDAT", b""), (b"pHYs", b"\0"), (b"gAMA", b""),
    (b"cHRM", bytes(5)), (b"sRGB", b""), (b"\0\1\2\3", b"?"), (b"IEND", b""), (b"CgBI", bytes(4)),
)  # fmt: skip


def png_extra(rng, chunks):
    chunks.insert(rng.randrange(1, len(chunks) + 1) if len(chunks) > 1 else 0, rng.choice(EXTRA))
    return chunks


def png(rng, data):
    chunks = png_chunks(data)
    if len(chunks) < 2 or len(chunks[0][1]) != 13:
        return flip(rng, data)
    return png_bytes(rng.choice([png_content, png_content, png_header, png_order, png_extra])(rng, chunks))


def jpeg(rng, data):
    """Segments dropped, doubled, swapped, or their content or length damaged; the size in the frame changed."""
    starts = [m.start() for m in re.finditer(rb"\xff[\xc0-\xfe]", data[:2000])] + [len(data)]
    parts = [data[a:b] for a, b in zip([0, *starts], starts)]
    one, two = rng.randrange(len(parts)), rng.randrange(len(parts))
    change = rng.randrange(5)
    if change == 0:
        del parts[one]
    elif change == 1:
        parts.insert(two, parts[one])
    elif change == 2:
        parts[one], parts[two] = parts[two], parts[one]
    elif change == 3:
        parts[one] = parts[one][:4] + rng.choice(GENERIC)(rng, parts[one][4:] or b"\0")
    else:
        at = next((i for i, p in enumerate(parts) if p[:2] in (b"\xff\xc0", b"\xff\xc2") and len(p) > 9), one)
        parts[at] = parts[at][:5] + struct.pack(">HH", *rng.choices([0, 1, 17, 8000, 65535], k=2)) + parts[at][9:]
    return b"".join(parts)


NASTY = (
    b"[" * 30_000, b'{"a":' * 30_000, b"\0", b"9" * 5000, b"-1", b"NaN", b"1e999", b"null", b"{}", b"[]", b'""',
    b"\xff\xfe", b"2001-99-99", b"!!python/object/apply:os.system ['false']", b"&a [*a]", b"*nobody", b"\\ud800",
    b"\xef\xbb\xbf", b"\r", b"\xe2\x80\xa8", b"../../x", b"/etc/passwd", b"..\\x", b"x" * 20_000, b"\n\n", b"\t", b": ",
    b"- ", b"'", b'"', b"%s{0}", b"<script>", b"true", b"1.5", b"0x1F", b"12:30:45", b"\x1b[31m", b"a,b", b",",
    b"--out", b"? ", b"| ", b"!!binary x",
)  # fmt: skip


def words(rng, data):
    """A word, or the end of the text, becomes something odd."""
    spans = [m.span() for m in re.finditer(rb"[\w.]+", data)] + [(len(data), len(data))]
    start, stop = rng.choice(spans)
    return data[:start] + rng.choice(NASTY) + data[stop:]


ODD = (None, True, False, 0, -1, 3, 10**30, 1e308, float("nan"), "", "x" * 300, "\0", "../x", [], {}, [[]], {"": None},
       ["a", 1], "semantic", "hard:gate=1", [-8], [10**9, 10**9], "é\n\u2028", "\ud800")  # fmt: skip


def tree(rng, value):
    """Somewhere in nested lists and dicts a value becomes something odd, or is lost."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(list(keys))
        copied = value.copy()
        if rng.random() < 0.1:
            del copied[key]
        else:
            copied[key] = tree(rng, value[key])
        return copied
    return rng.choice(ODD)


def json_tree(rng, data):
    try:
        return json.dumps(tree(rng, json.loads(data))).encode()
    except (ValueError, RecursionError):
        return flip(rng, data)


def header_of_safetensors(rng, data):
    """The text in the header, and the description of the model in it, damaged; the header's length right."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        about = json.loads(header["__metadata__"]["mtl_course"]) | {"sha256": ""}  # as before there was one
        if rng.random() < 0.6:
            header["__metadata__"]["mtl_course"] = json.dumps(tree(rng, about))
        else:
            header = tree(rng, header)
        text = json.dumps(header).encode()
    except (ValueError, KeyError, TypeError):
        text = rng.choice(GENERIC)(rng, data[8 : 8 + length] or b"\0")
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def with_right_sum(rng, data):
    """The state after its checksum damaged, and the checksum made right."""
    body = rng.choice(GENERIC)(rng, data.partition(b"\n")[2] or b"\0")
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def other_state(rng, data):
    """A whole state with something odd in it."""
    state = {"run": RUN, "epoch": 1, "model": {"w": torch.zeros(3)}, "random": {"python": [3, [1, 2], None]}}
    torch.save(tree(rng, state), body := io.BytesIO())
    body = body.getvalue()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


# The kinds: valid files to start from, what damages them, and who reads them.


def picture_files(folder):
    """Small valid files by suffix: JPEG and PNG of every mode, and other formats under a wrong name."""
    colors, ids = draw(0, SIZE[1], SIZE[0])
    rgb, mask = Image.fromarray(colors), Image.fromarray(ids, "P")
    mask.putpalette(reading.voc_palette().tobytes())
    grey, bits = rgb.convert("L"), rgb.convert("1")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[0x010E] = 6, "a picture"
    made = [
        (".jpg", rgb, "JPEG", {}), (".jpg", rgb, "JPEG", {"exif": exif}), (".jpg", rgb, "JPEG", {"progressive": True}),
        (".jpg", grey, "JPEG", {}), (".jpg", rgb.convert("CMYK"), "JPEG", {}), (".jpg", rgb, "JPEG", {"quality": 20}),
        (".jpg", rgb, "WEBP", {"exif": exif}), (".jpg", rgb, "TIFF", {"compression": "tiff_lzw"}),
        (".jpg", rgb, "BMP", {}), (".jpg", rgb, "PNG", {}), (".png", mask, "PNG", {}),
        (".png", mask, "PNG", {"transparency": 0}),
        (".png", mask.convert("RGB"), "PNG", {}), (".png", mask.convert("RGBA"), "PNG", {}),
        (".png", Image.fromarray(ids, "L"), "PNG", {}), (".png", bits, "PNG", {}),
        (".png", mask, "PNG", {"exif": exif}),
        (".png", Image.fromarray(ids.astype(np.uint16)), "PNG", {}), (".png", mask, "GIF", {}),
        (".png", rgb.convert("LA"), "PNG", {}), (".png", mask, "PNG", {"bits": 4}), (".png", grey, "JPEG", {}),
        (".png", mask, "PNG", {"transparency": bytes(range(21))}), (".png", rgb, "PNG", {}),
    ]  # fmt: skip
    files = []
    for suffix, image, kind, options in made:
        image.save(content := io.BytesIO(), kind, **options)
        files.append((suffix, content.getvalue()))
    return [*files, (".png", interlaced(ids))]


def interlaced(ids):
    """A grey PNG in Adam7 order, which Pillow reads and does not write."""
    rows = b""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        rows += b"".join(b"\0" + row.tobytes() for row in ids[y::dy, x::dx] if row.size)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], 8, 0, 0, 0, 1)
    return png_bytes([(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


class Pictures:
    """Image and mask files."""

    def __init__(self, folder):
        self.files = picture_files(folder)
        self.folder, self.good = folder, {".jpg": folder / "good.jpg", ".png": folder / "good.png"}
        self.good[".jpg"].write_bytes(self.files[0][1])
        self.good[".png"].write_bytes(next(data for suffix, data in self.files if suffix == ".png"))
        for part in ("images", "masks"):
            (folder / part).mkdir()
        (folder / "classes.txt").write_text("\n".join(voc.VOC_CLASSES))

    def make(self, rng):
        suffix, data = rng.choice(self.files)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            known = {b"\x89P": png, b"\xff\xd8": jpeg}.get(data[:2])
            damages = (*GENERIC, splice) if known is None or rng.random() < 0.25 else (known,)
            damage = rng.choice(damages)
            data = damage(rng, data, rng.choice(self.files)[1]) if damage is splice else damage(rng, data or b"\0")
        path = self.folder / f"case{suffix}"
        path.write_bytes(data)
        return path

    def calls(self, path, index):
        yield lambda: of_picture(reading.read_picture(path))
        yield lambda: of_picture(reading.read_picture(path, side=8))
        for binary in (False, True):
            yield lambda b=binary: of_mask(reading.read_mask(path, 21, b))
        yield lambda: of_size(reading.pair_size(path, self.good[".png"]))
        yield lambda: of_size(reading.pair_size(self.good[".jpg"], path))
        if index % 50 == 0:
            yield lambda: self.sample(path, "images", "masks/case.png", ".png")
            yield lambda: self.sample(path, "masks", "images/case.jpg", ".jpg")

    def sample(self, path, part, partner, suffix):
        """One item of a data set of this file and a good partner."""
        for old in [*self.folder.glob("images/*"), *self.folder.glob("masks/*")]:
            old.unlink()
        name = "case.png" if part == "masks" else path.name
        (self.folder / part / name).write_bytes(path.read_bytes())
        (self.folder / partner).write_bytes(self.good[suffix].read_bytes())
        data = Folder(self.folder, tasks=("semantic", "foreground", "boundary"), size=16, augment=True)
        for task in data.tasks.values():
            task.check(data[0][task.name][None], "sample")
        of_picture((data[0]["image"].permute(1, 2, 0) * 255).byte().numpy())


def splice(rng, data, other):
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other)) :]


def of_picture(found):
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and found.size, found.shape


def of_mask(found):
    assert found.dtype == np.uint8 and found.ndim == 2 and found.size, found.shape
    assert ((found < 21) | (found == 255)).all()


def of_size(found):
    assert len(found) == 2 and min(found) > 0 and all(type(side) is int for side in found)


class OneFile:
    """A kind of which one valid file is damaged."""

    damages = (*GENERIC, words, words, words)
    name = "case.txt"

    def __init__(self, folder):
        self.path = folder / self.name
        self.data = self.valid(folder)

    def make(self, rng):
        data = self.data
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            data = rng.choice(self.damages)(rng, data or b"\0")
        self.path.write_bytes(data)
        return self.path


class Checkpoint(OneFile):
    damages, name = (*GENERIC, *[header_of_safetensors] * 12), "case.safetensors"

    def valid(self, folder):
        torch.manual_seed(0)
        which = tasks.make(["semantic", "depth"], ["a", "b"])
        return training.save(self.path, models.build("hard", "unet", which, channels=(2, 3)), which).read_bytes()

    def calls(self, path, index):
        yield lambda: training.load(path)


class State(OneFile):
    damages, name = (*GENERIC, *[with_right_sum] * 8, *[other_state] * 4), "state.pt"

    def valid(self, folder):
        state = {"run": RUN, "epoch": 1, "model": {"w": torch.rand(4, 3)}, "random": training.state.random_states([])}
        return write_state(self.path, state).read_bytes()

    def calls(self, path, index):
        yield lambda: read_state(path, RUN)


class Classes(OneFile):
    name = "classes.txt"

    def valid(self, folder):
        return "\n".join(voc.VOC_CLASSES).encode()

    def calls(self, path, index):
        yield lambda: tasks.semantic(reading.read_classes(path))


class Split(OneFile):
    def valid(self, folder):
        self.root = write_devkit(folder, 2, 1)
        self.path = self.root / "ImageSets/Segmentation/train.txt"
        return self.path.read_bytes()

    def calls(self, path, index):
        yield lambda: voc.voc_pairs(self.root.resolve(), "train")
        yield lambda: voc.voc_pairs(self.root.resolve(), "fit")


class Config(OneFile):
    """config.yaml of a run: read by --config, --resume, and by the commands that take a checkpoint."""

    name = "config.yaml"

    def valid(self, folder):
        (folder / "state.pt").touch()
        chosen = {"data": "folder", "root": "photos", "tasks": "semantic,depth", "size": 16, "seed": 0, "lr": 0.01}
        more = {"trunk-option": {"channels": [8, 16]}, "compile": False, "weights": [1, 0.2], "classes": "cat"}
        return "".join(f"{name}: {json.dumps(value)}\n" for name, value in (chosen | more).items()).encode()

    def calls(self, path, index):
        yield lambda: recall(path.with_name("best.safetensors"))
        yield lambda: parse(["train", "--config", str(path)])
        yield lambda: parse(["train", "--resume", "--out", str(path.parent)])


class Record(OneFile):
    damages, name = (*GENERIC, *[json_tree] * 6, words), "case.json"

    def valid(self, folder):
        runs = [{"arm": a, "seed": s, "seconds": 1.0, "numbers": {"score": s / 3}} for a in "ab" for s in (0, 1)]
        head = {
            "claim": "a is better",
            "question": "which?",
            "protocol": "two runs each",
            "arms": ["a", "b"],
            "seeds": [0, 1],
        }
        return json.dumps(head | {"results": runs, "summary": {"unit": "points"}}).encode()

    def calls(self, path, index):
        yield lambda: store.read(path)


class Areas(OneFile):
    """NAME.json of predict, which view reads."""

    damages, name = (*GENERIC, *[json_tree] * 8, words), "case.json"

    def valid(self, folder):
        colors, ids = draw(0, SIZE[1], SIZE[0])
        Image.fromarray(colors).save(folder / "case.jpg")
        Image.fromarray(np.minimum(ids, 1)).save(folder / "case_mask.png")
        areas = {"semantic": {name: {"pixels": 3, "share": 0.5} for name in ("a", "b")}}
        return json.dumps({"photo": "case.jpg", "checkpoint": "m", "size": 16, "areas": areas}).encode()

    def calls(self, path, index):
        yield lambda: said_by(["view", str(path.parent), "--no-open", "--out", str(path.parent / "page.html")])


def said_by(line):
    """Run a command; what it says with exit code 2 is raised as a CourseError, and anything else must be right."""
    with patch("sys.stderr", io.StringIO()) as err, patch("sys.stdout", io.StringIO()):
        code = main(line)
    said = err.getvalue()
    if code == 2 and said.startswith("mtl_course: ") and said.endswith("\n"):
        raise CourseError(said.removeprefix("mtl_course: ")[:-1])
    assert code == 0 and not said, (code, said)


KINDS = {
    "pictures": Pictures, "checkpoint": Checkpoint, "state": State, "classes": Classes, "split": Split,
    "config": Config, "record": Record, "areas": Areas,
}  # fmt: skip


def outcome(call, folder):
    """What one call gave: "result", the beginning of its sentence, or, from "FAULT" on, what must not be."""
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            call()
        found = "result"
    except CourseError as error:
        found = str(error)
        if not found.isprintable() or str(folder) not in found:
            return f"FAULT no sentence with the file in one line: {found[:300]!r}"
        found = re.sub(r"\d+", "N", found.replace(str(folder), "FOLDER")[:400])
        found = re.sub(r"'[^']*'|\([^)]*\)|\[[^]]*\]", "...", found)[:90]
    except BaseException as error:  # the point of it all
        return f"FAULT {type(error).__name__}: {str(error)[:300]}"
    return f"FAULT warning: {warned[0].message}" if warned else found


def run(kinds, first, count, folder):
    readers = []
    for kind in kinds.split(","):
        (folder / kind).mkdir(parents=True)
        readers.append((kind, KINDS[kind](folder / kind)))
    in_use = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (in_use + ROOM, in_use + ROOM))
    say(starts=peak())
    for kind, reader in readers:
        for index in range(first, first + count):
            say(kind=kind, begins=index)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            path = reader.make(random.Random(f"{kind} {index}"))
            start = time.perf_counter()
            found = [outcome(call, folder / kind) for call in reader.calls(path, index)]
            say(kind=kind, ends=index, found=found, seconds=time.perf_counter() - start, peak=peak())
    faulthandler.cancel_dump_traceback_later()


def peak():
    """The most memory that was in use so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(**row):
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    torch.set_num_threads(1)
    run(**vars(parser.parse_args()))
