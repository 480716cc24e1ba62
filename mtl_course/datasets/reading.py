"""Pictures and masks from files, each fault told with the file and the mend."""

import os
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mtl_course.errors import CourseError, MissingFile
from mtl_course.losses import IGNORE_INDEX

MEGAPIXELS = 64  # the most that a file may hold
ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 swap width and height


def voc_palette() -> np.ndarray:
    """VOC's colours by class id, uint8 (256, 3): bits 3k, 3k + 1, 3k + 2 of the id are bit 7 - k of red, green, blue.

    >>> voc_palette()[[0, 1, 15, 255]].tolist()
    [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    ids = np.arange(256)[:, None]
    bits = [((ids >> (3 * k + np.arange(3))) & 1) << (7 - k) for k in range(3)]
    return np.sum(bits, 0).astype(np.uint8)


def listed(names: Sequence[object]) -> str:
    """The first ten names, for an error.

    >>> listed(["a", "b"])
    'a, b'
    """
    return ", ".join(map(str, names[:10])) + (", ..." if len(names) > 10 else "")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file's header read; every fault, also of what is done with it, becomes a sentence."""
    try:
        if path.stat().st_size == 0:
            raise CourseError(f"{path}: the file is empty: fetch it again")
        with Image.open(path) as image:
            if image.width * image.height > MEGAPIXELS * 10**6:
                raise Image.DecompressionBombError
            yield image
    except CourseError:
        raise
    except FileNotFoundError as error:
        raise MissingFile(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise CourseError(f"{path}: no permission to read it: change the rights of the file") from error
    except Image.DecompressionBombError as error:
        raise CourseError(f"{path}: more than {MEGAPIXELS} million pixels by its header: make it smaller") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        why = "not a picture" if isinstance(error, Image.UnidentifiedImageError) else error
        raise CourseError(f"{path}: cannot be decoded ({why}): it is damaged or cut short, fetch it again") from error


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ORIENTATION, 1) if "exif" in image.info else 1


def pair_size(picture: Path, mask: Path, binary: bool = False) -> tuple[int, int]:
    """Height and width of a picture and its mask, from the headers alone.

    The picture counts upright, as its EXIF orientation says; the mask must fit the upright picture.

    Args:
        picture, mask: the files.
        binary: whether a 1-bit mask is welcome.

    Raises:
        CourseError: if the sizes differ, or a file cannot be read.
    """
    with _opened(picture) as image:
        stored = image.size
        upright = stored[::-1] if _orientation(image) >= 5 else stored
    with _opened(mask) as image:
        _check_mode(image, mask, binary)
        size = image.size
    if upright != size:
        hint = " (the mask fits the picture as stored, before its EXIF rotation)" if size == stored else ""
        found = f"{picture} is {upright[0]} x {upright[1]} pixels upright, {mask} is {size[0]} x {size[1]}{hint}"
        raise CourseError(f"{found}: bring picture and mask to the same size")
    return size[1], size[0]


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
    with _opened(path) as image:
        if image.mode.startswith(("I", "F")):
            raise CourseError(f"{path}: a picture of 8 bits a colour is expected, not mode {image.mode}: convert it")
        turned = _orientation(image) != 1
        if side is not None:
            image.draft("RGB", (side, side))
        upright = ImageOps.exif_transpose(image) if turned else image
        return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))


def _check_mode(image: Image.Image, path: Path, binary: bool) -> None:
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
        CourseError: if the file is missing, empty, damaged, of another mode, or holds an unknown colour or id.
    """
    with _opened(path) as image:
        _check_mode(image, path, binary)
        ids = np.asarray(image, np.uint8)
    if ids.ndim == 3:
        ids = _from_colors(ids, path)
    if (ids + np.uint8(1)).max() > classes:  # 255 + 1 is 0 in uint8
        bad = listed([int(i) for i in np.unique(ids) if classes <= i < IGNORE_INDEX])
        known = f"the class ids are 0 to {classes - 1} and {IGNORE_INDEX} = ignore"
        raise CourseError(f"{path}: {known}, it holds {bad}: correct the mask or the list of classes")
    return ids


def _from_colors(colors: np.ndarray, path: Path) -> np.ndarray:
    """Ids (H, W) of VOC's colours (H, W, 3 or 4)."""
    if colors.shape[2] == 4 and (colors[..., 3] != 255).any():
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
        raise MissingFile(f"no folder {folder}: a part of the data is missing, get or unpack it again")
    if not folder.resolve().is_relative_to(root):
        raise CourseError(f"{folder} is a link that leaves {root}: put the files there themselves")
    found: dict[str, Path] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() not in suffixes or stem.startswith("."):
            continue
        path = folder / entry.name
        if entry.is_symlink() and not path.resolve().is_relative_to(root):
            raise CourseError(f"{path} is a link that leaves {root}: put the file there itself")
        if stem in found:
            raise CourseError(f"{found[stem]} and {path} have one name: rename one of them")
        found[stem] = path
    return found


def matched_files(root: Path, pictures: str, masks: str, names: Sequence[str] | None = None) -> list[tuple[Path, Path]]:
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
    names = sorted(found) if names is None else names
    _check_partners(names, found, root / pictures, "picture")
    _check_partners(names, partners, root / masks, "mask")
    _check_partners(list(partners), found, root / pictures, "picture")
    return [(found[name], partners[name]) for name in names]


def _check_partners(names: Sequence[str], partners: Container[str], folder: Path, what: str) -> None:
    if lost := [name for name in names if name not in partners]:
        those = f"{len(lost)} of {len(names)} {'masks' if what == 'picture' else 'pictures'}"
        raise MissingFile(f"{those} have no {what} in {folder} ({listed(lost)}): add the {what}s, or unpack again")


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one a line, by id, the background first.

    Raises:
        CourseError: if there are fewer than 2 or more than 255, or one is there twice.
    """
    lines = path.read_text("utf-8-sig", errors="replace").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if not 2 <= len(names) <= 255 or len(set(names)) < len(names):
        raise CourseError(f"{path}: 2 to 255 different class names are expected, one a line, the background first")
    return names
