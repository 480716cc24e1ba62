"""Ways to break a data set."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from voc_fixture import save_mask

NAME = "2007_000000"  # the first picture of tests/voc_fixture.py: 60 wide, 80 high
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def jpg(folder: Path) -> Path:
    return folder / f"JPEGImages/{NAME}.jpg"


def png(folder: Path) -> Path:
    return folder / f"SegmentationClass/{NAME}.png"


def train(folder: Path) -> Path:
    return folder / "ImageSets/Segmentation/train.txt"


def classes(folder: Path) -> Path:
    return folder / "classes.txt"


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def change_byte(path: Path, after: bytes, step: int) -> None:
    """Another value for the byte that lies `step` behind the first `after`."""
    content = bytearray(path.read_bytes())
    content[content.index(after) + step] ^= 0xFF
    path.write_bytes(bytes(content))


def ids_of(path: Path) -> np.ndarray:
    with Image.open(path) as mask:
        return np.array(mask)


def one_pixel(path: Path, value: int) -> None:
    ids = ids_of(path)
    ids[7, 9] = value
    save_mask(ids, path)


def recolor(path: Path, mode: str, place: tuple, value: object) -> None:
    """The mask in colours, with one of them changed."""
    with Image.open(path) as mask:
        colors = np.array(mask.convert(mode))
    colors[place] = value
    Image.fromarray(colors, mode).save(path)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(width: int, height: int, bits: int = 8, rows: bytes | None = None, extra: bytes = b"") -> bytes:
    """A PNG of grey levels with the header, rows and further chunks that one wants."""
    rows = bytes((width * bits // 8 + 1) * height) if rows is None else rows
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return SIGNATURE + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG of 60 x 80 with a text of 300 MB, compressed to 300 kB."""
    return raw_png(60, 80, extra=chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(300_000_000), 1)))


def saved(path: Path, format: str, mode: str = "RGB", **options: object) -> None:
    """Picture or mask of the right size, saved in another format or mode under its old name."""
    content = io.BytesIO()
    Image.new(mode, (60, 80)).save(content, format, **options)
    path.write_bytes(content.getvalue())


def rotate(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    with Image.open(path) as image:
        image.load()
    image.save(path, exif=exif)


def link_out(path: Path) -> None:
    """The file or folder moved out of the data, a link to it in its place."""
    outside = path.parents[len(path.parts) - 1 - path.parts.index("VOCdevkit")] / f"outside_{path.name}"
    if path.exists():
        path.rename(outside)
    else:
        outside.write_text("background\ncat\n")
    path.symlink_to(outside)


def instead(path: Path, make: object, *more: object) -> None:
    """Something else in the place of a file: a folder, a pipe, a link."""
    path.unlink(missing_ok=True)
    make(*more, path) if more else make(path)


def loop(path: Path) -> None:
    instead(path, os.symlink, path.name)
