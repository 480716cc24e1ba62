"""Pictures and masks from files, each fault told with the file and the mend."""

import os
import warnings
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unicodedata import normalize

import numpy as np
from PIL import ExifTags, Image, ImageOps

from mtl_course.errors import CourseError, MissingFile
from mtl_course.losses import IGNORE_INDEX

MEGAPIXELS = 64  # the most that a file may hold
NARROW = 50  # how much longer one side may be; resized by the shorter one, a line would take gigabytes
MEGABYTES = 16  # the most that a list of names may hold


def voc_palette() -> np.ndarray:
    """VOC's colours by class id, uint8 (256, 3): bits 3k, 3k + 1, 3k + 2 of the id are bit 7 - k of red, green, blue.

    >>> voc_palette()[[0, 1, 15, 255]].tolist()
    [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, count=9, bitorder="little")
    return np.packbits(bits.reshape(256, 3, 3), axis=1)[:, 0]


def listed(names: Sequence[object]) -> str:
    """The first ten names, for an error."""
    return ", ".join(map(str, names[:10])) + (", ..." if len(names) > 10 else "")


@contextmanager
def opened(path: Path, formats: Sequence[str] = ("JPEG", "PNG")) -> Iterator[Image.Image]:
    """The file's header read; every fault, also of what is done with it, becomes a sentence.

    Args:
        path: of the file; its content says what it is, not its name.
        formats: those that are welcome; of Pillow's others some start programs: EPS runs Ghostscript.
    """
    try:
        if path.stat().st_size == 0 or not path.is_file():
            raise CourseError(f"{path}: {'the file is empty' if path.is_file() else 'this is no file'}: fetch it again")
        # Pillow's warnings name no file: damaged EXIF, which leaves a picture as stored, or much that is refused here.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=formats) as image:
            if image.width * image.height > MEGAPIXELS * 10**6:
                raise Image.DecompressionBombError
            yield image
    except (CourseError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise MissingFile(f"{path}: there is no such file: put it there") from error
    except Exception as error:  # anything: the bytes are not ours
        kind, why = " or ".join(formats), getattr(error, "strerror", None) or error
        said = {
            PermissionError: "no permission to read it: change the rights of the file",
            Image.DecompressionBombError: f"more than {MEGAPIXELS} million pixels by its header: make it smaller",
            Image.UnidentifiedImageError: f"not a picture in {kind}: fetch it again, or save it as {kind}",
        }.get(type(error), f"cannot be decoded ({why}): it is damaged or cut short, fetch it again")
        raise CourseError(f"{path}: {said}") from error


def orientation(image: Image.Image) -> int:
    """How a picture is stored, by EXIF: 1 is upright, 5 to 8 swap width and height."""
    return image.getexif().get(ExifTags.Base.Orientation, 1) if "exif" in image.info else 1


def pair_size(picture: Path, mask: Path, binary: bool = False) -> tuple[int, int]:
    """Height and width, from the headers alone, of a picture turned upright by EXIF and of its mask, which must fit.

    Args:
        picture, mask: the files.
        binary: whether a 1-bit mask is welcome.

    Raises:
        CourseError: if the sizes differ, or a file cannot be read.
    """
    with opened(picture) as image:
        stored = image.size
        upright = stored[::-1] if orientation(image) in (5, 6, 7, 8) else stored
    with opened(mask, ("PNG",)) as image:
        _check_mode(image, mask, binary)
        width, height = image.size
    if upright != (width, height):
        hint = " (the mask fits the picture as stored, before its EXIF rotation)" if stored == (width, height) else ""
        found = f"{picture} is {upright[0]} x {upright[1]} pixels upright, {mask} is {width} x {height}{hint}"
        raise CourseError(f"{found}: bring picture and mask to the same size")
    if max(upright) > NARROW * min(upright):
        raise CourseError(f"{picture}: {width} x {height} pixels are narrower than 1 : {NARROW}: crop it and the mask")
    return height, width


def read_picture(path: Path, side: int | None = None) -> np.ndarray:
    """A picture's colours, upright.

    Args:
        path: JPEG or PNG.
        side: if given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as no side gets shorter than this.

    Returns:
        uint8 (H, W, 3).

    Raises:
        CourseError: if the file is missing, empty, damaged, too large or has more than 8 bits a colour.
    """
    with opened(path) as image:
        if image.mode.startswith(("I", "F")):
            raise CourseError(f"{path}: a picture of 8 bits a colour is expected, not mode {image.mode}: convert it")
        if side is not None:
            image.draft("RGB", (side, side))
        upright = ImageOps.exif_transpose(image) if orientation(image) != 1 else image
        return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))


def _check_mode(image: Image.Image, path: Path, binary: bool) -> None:
    if orientation(image) != 1:
        raise CourseError(f"{path}: a mask must not be turned by EXIF: save it as it is shown, without EXIF")
    # Pillow spreads grey levels of 2 and 4 bits over 0 to 255, which changes the ids.
    mode = str(image.tile[0][3]) if image.mode == "L" and image.tile else image.mode
    if mode == "1" and not binary:
        raise CourseError(f"{path}: a 1-bit mask holds no class ids: ask for foreground alone, or save ids (mode P)")
    if mode not in ("1", "P", "L", "RGB", "RGBA"):
        raise CourseError(f"{path}: a mask of 8 bits is expected (mode P or L), this is mode {mode}: save it as 8 bits")


def read_mask(path: Path, classes: int, binary: bool = False) -> np.ndarray:
    """A mask's class ids.

    Args:
        path: PNG with a palette or grey levels, whose values are the ids, or coloured exactly as VOC's palette.
        classes: how many there are; the ids go from 0 to classes - 1, and 255 = ignored.
        binary: whether a 1-bit mask is welcome.

    Returns:
        uint8 (H, W).

    Raises:
        CourseError: if the file is missing, empty, damaged, of another mode, or holds an unknown or renumbered colour.
    """
    with opened(path, ("PNG",)) as image:
        _check_mode(image, path, binary)
        ids = np.asarray(image, np.uint8)
        if image.mode == "P":
            _refuse_moved(ids, image.getpalette(), path)
    if ids.ndim == 3:
        ids = np.stack([_from_colors(row, path) for row in ids])  # not all at once: a pixel takes 30 bytes
    if (ids + np.uint8(1)).max() > classes:  # 255 + 1 is 0 in uint8
        bad = listed([int(i) for i in np.unique(ids) if classes <= i < IGNORE_INDEX])
        known = f"the class ids are 0 to {classes - 1} and {IGNORE_INDEX} = ignore"
        raise CourseError(f"{path}: {known}, it holds {bad}: correct the mask or the list of classes")
    return ids


def _refuse_moved(ids: np.ndarray, palette: list[int], path: Path) -> None:
    """An editor may renumber VOC's colours: then all are in VOC's palette, and black or that of 255 has another id."""
    used = np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
    same = (np.resize(palette, (256, 3))[used, None] == voc_palette()).all(2)  # which of VOC's colours, (used, 256)
    moved = same[:, [0, 255]].any(1) & (same.argmax(1) != used)
    if moved.any() and same.any(1).all() and same.any(0).sum() == len(used):
        raise CourseError(f"{path}: an editor renumbered VOC's colours (see id {used[moved][0]}): save the mask in RGB")


def _from_colors(colors: np.ndarray, path: Path) -> np.ndarray:
    """Ids (W,) of a row of VOC's colours (W, 3 or 4)."""
    if colors.shape[1] == 4 and (colors[..., 3] != 255).any():
        raise CourseError(f"{path}: a mask must not be transparent: save it with a palette")
    known, found = (c.astype(np.int32) @ [65536, 256, 1] for c in (voc_palette(), colors[..., :3]))
    order = known.argsort()
    ids = order[np.searchsorted(known, found, sorter=order).clip(max=255)].astype(np.uint8)
    if (wrong := known[ids] != found).any():
        strange = listed(np.unique(colors[wrong][:, :3], axis=0).tolist())
        raise CourseError(f"{path}: {strange} (R, G, B) is not in VOC's palette: save class ids (mode P)")
    return ids


def _files_in(root: Path, folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The files of a folder by name without suffix, hidden ones left out."""
    if not folder.is_dir():
        raise MissingFile(f"no folder {folder}: a part is missing, get or unpack it again")
    if not is_inside(folder, root):
        raise MissingFile(f"no folder {folder}: it is a link that leaves {root}, put the files there")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            if path.is_symlink() and not is_inside(path, root):
                raise CourseError(f"{path} is a link that leaves {root}: put the file there itself")
            if (first := found.setdefault(normalize("NFC", path.stem), path)) is not path:
                raise CourseError(f"{first} and {path} have one name: rename one of them")
    return found


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path, its links followed, lies in `root`, which is resolved."""
    return Path(os.path.realpath(path)).is_relative_to(root)


def matched_files(root: Path, pictures: str, masks: str, names: Iterable[str] | None = None) -> list[tuple[Path, Path]]:
    """(picture, mask) files that have one name; every picture asked for has a mask, and every mask a picture.

    Args:
        root: resolved; no file may lie outside it.
        pictures, masks: their folders in root.
        names: of the pictures wanted, without suffix; None: all, sorted.

    Raises:
        MissingFile: if a folder, or pictures or masks are missing (how many, the first ten).
        CourseError: if a link leaves the root, or two files have one name.
    """
    found = _files_in(root, root / pictures, (".jpg", ".jpeg", ".png"))
    partners = _files_in(root, root / masks, (".png",))
    names = dict.fromkeys(sorted(found) if names is None else names)
    _refuse_lost("picture", "masks or names", names | dict.fromkeys(partners), found, root / pictures)
    _refuse_lost("mask", "pictures", names, partners, root / masks)
    return [(found[name], partners[name]) for name in names]


def _refuse_lost(what: str, those: str, names: Collection[str], there: Container[str], folder: Path) -> None:
    if lost := [name for name in names if name not in there]:
        said = f"{len(lost)} of {len(names)} {those} have no {what} in {folder} ({listed(lost)})"
        raise MissingFile(f"{said}: add the {what}s, correct the names, or unpack again")


def read_lines(path: Path, root: Path) -> list[str]:
    """The lines of a list of names, without blanks around them and empty ones.

    Raises:
        CourseError: if it is no text in UTF-8, too long, or not a file in `root`, which is resolved.
    """
    if not path.is_file() or not is_inside(path, root) or path.stat().st_size > MEGABYTES * 2**20:
        raise CourseError(f"{path}: a file of at most {MEGABYTES} MB, inside {root}, is expected: replace it")
    text = path.read_text("utf-8-sig", errors="replace")
    if "\0" in text or "\ufffd" in text:  # UTF-16 has zeros
        raise CourseError(f"{path}: text in UTF-8 is expected, and this is none: save it again as UTF-8")
    return [normalize("NFC", line.strip()) for line in text.splitlines() if line.strip()]


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one a line, by id, the background first.

    Raises:
        CourseError: if they are not 2 to 255 different printable names, or the file is none that `read_lines` takes.
    """
    names = tuple(read_lines(path, path.parent.resolve()))
    if not 2 <= len(set(names)) == len(names) <= 255 or not all(map(str.isprintable, names)):
        form = "one a line, the background first, without control characters"
        raise CourseError(f"{path}: 2 to 255 different class names are expected, {form}: correct the file")
    return names
