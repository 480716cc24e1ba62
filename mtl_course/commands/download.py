"""Pascal VOC from the internet, checked and unpacked: what `python -m mtl_course data voc` does."""

import shutil
import tarfile
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from time import sleep as _wait
from urllib.request import Request, urlopen

from torchvision.datasets.utils import check_integrity
from tqdm.auto import tqdm

from mtl_course.commands.scenes_voc import VOC_FOLDER
from mtl_course.datasets.voc import voc_pairs
from mtl_course.errors import CourseError
from mtl_course.files import is_disk_fault, reason, staged, told

VOC_URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
VOC_BYTES, VOC_MD5 = 1_999_639_040, "6cd6e144f989b92b3379bac3b3de84fd"
CHUNK = 1 << 20


def download_voc(root: str | Path, url: str = VOC_URL, size: int = VOC_BYTES, md5: str = VOC_MD5, timeout: float = 30,
                 tries: int = 3) -> Path:  # fmt: skip
    """Download Pascal VOC 2012 (training and validation, 2 GB), check it and unpack it into root/VOCdevkit/VOC2012.

    What arrived is kept in a .part file: the next try, or the next call, goes on there. An archive that already lies in
    root is used; a VOC that is there and complete is left alone.

    Args:
        root: folder that gets VOCdevkit.
        url, size, md5: of the archive; its bytes and checksum.
        timeout: seconds without an answer after which a try is given up.
        tries: how many; the wait between two grows by a second each time.

    Returns:
        The folder VOC2012.

    Raises:
        CourseError: if the disk is too small or full, the server cannot be reached or sends something else, or the
            VOC that is there is not complete.
    """
    root = Path(root).expanduser()
    folder, archive = root / VOC_FOLDER, root / url.rsplit("/", 1)[-1]
    if folder.exists():
        pairs = voc_pairs(folder.resolve(), "trainval")
        print(f"Pascal VOC is already in {folder}, complete: {len(pairs)} pictures with masks. Nothing to do.")
        return folder
    part = archive.with_name(archive.name + ".part")
    with told(root):
        root.mkdir(parents=True, exist_ok=True)
    needed = size if part.exists() or archive.exists() else 2 * size  # the archive, and what is in it
    if (free := shutil.disk_usage(root).free) < needed:
        raise CourseError(f"{root}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} are free: choose another --root")
    if archive.exists():
        _check_archive(archive, size, md5)
    else:
        print(f"Downloading {url} ({size / 1e9:.2g} GB) to {archive}")
        _try_fetch(url, part, size, timeout, tries)
        _check_archive(part, size, md5)
        part.replace(archive)
    extract(archive, root)
    print(f"Pascal VOC is in {folder}; {archive} may be deleted.")
    return folder


def _try_fetch(url: str, part: Path, size: int, timeout: float, tries: int) -> None:
    for attempt in range(1, tries + 1):
        try:
            return _fetch(url, part, size, timeout)
        except (OSError, HTTPException) as error:
            if is_disk_fault(error):
                raise CourseError(f"could not write {part}: {reason(error)}, and start again to go on") from error
            if attempt == tries:
                said = f"could not download {url} in {tries} tries ({error}): start again to go on where it ended"
                by_hand = f"put the file {part.stem} ({size:,} bytes) into {part.parent} by hand, and start again"
                raise CourseError(f"{said}, or {by_hand}") from error
            print(f"Try {attempt} of {tries}: {error}; going on in {attempt} s")
            _wait(attempt)


def _fetch(url: str, part: Path, size: int, timeout: float) -> None:
    """One try, from where `part` ends."""
    have = part.stat().st_size if part.exists() else 0
    if have == size:
        return
    request = Request(url, headers={"Range": f"bytes={have}-"} if 0 < have < size else {})
    with urlopen(request, timeout=timeout) as response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server starts anew
        chunk = response.read1(CHUNK)
        if "html" in response.headers.get("Content-Type", "") or (not have and chunk.lstrip()[:1] == b"<"):
            raise CourseError(f"{url}: a web page came instead of the archive: log in to your network, or try later")
        bar = tqdm(total=size, initial=have, unit="B", unit_scale=True)
        with bar, open(part, "ab" if have else "wb") as file:
            while chunk and file.tell() <= size:
                file.write(chunk)
                bar.update(len(chunk))
                chunk = response.read1(CHUNK)
    if (have := part.stat().st_size) < size:
        raise HTTPException(f"the connection ended after {have:,} of {size:,} bytes")


def _check_archive(archive: Path, size: int, md5: str) -> None:
    """Refuse an archive of another size or content; a .part file of ours is then deleted."""
    have = archive.stat().st_size
    if have == size and check_integrity(archive, md5):
        return
    if is_ours := archive.suffix == ".part":
        archive.unlink()
    mend = "it was deleted, start again" if is_ours else "delete it, and start again"
    raise CourseError(f"{archive} ({have:,} bytes) is not the archive of {size:,} bytes and md5 {md5}: {mend}")


def extract(archive: str | Path, root: str | Path, folder: str = VOC_FOLDER) -> Path:
    """Unpack `folder` of a tar archive to root/folder: whole, or not at all.

    Args:
        archive: the file.
        root: where to.
        folder: a folder in the archive; root/folder must not be there yet.

    Returns:
        root/folder.

    Raises:
        CourseError: if the archive is damaged or lacks the folder, a member would leave the root or is no plain file or
            folder, root/folder is there, or the disk is full. Nothing was unpacked then.
    """
    archive, target = Path(archive), Path(root) / folder
    try:
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and later have it
            wanted = [member for member in tar.getmembers() if _is_wanted(member, archive, folder)]
            if not wanted:
                raise CourseError(f"{archive} holds no {folder}: it is another archive")
            with staged(target, folder) as part:
                tar.extractall(part, tqdm(wanted, "unpack", unit="file"))
    except (tarfile.TarError, EOFError) as error:
        raise CourseError(f"{archive} is damaged or no tar archive ({error}): delete it, and fetch it again") from error
    return target


def _is_wanted(member: tarfile.TarInfo, archive: Path, folder: str) -> bool:
    """Whether a member lies in the folder; one that is not safe is refused wherever it lies."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
        raise CourseError(f"{archive}: the member {member.name!r} would leave the folder: do not use this archive")
    if not (member.isfile() or member.isdir()):
        raise CourseError(f"{archive}: the member {member.name!r} is a link or device: do not use this archive")
    return path.is_relative_to(folder)
