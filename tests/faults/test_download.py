"""Download and unpacking, against a server on this machine that misbehaves: `python -m mtl_course data voc`."""

import errno
import hashlib
import io
import os
import shutil
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from voc_fixture import write_devkit

from mtl_course.commands import download
from mtl_course.commands.download import download_voc, extract
from mtl_course.datasets import VOC
from mtl_course.errors import CourseError

SECTION = "Download and archives"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A tar archive of a small VOCdevkit, in bytes."""
    root = tmp_path_factory.mktemp("archive")
    write_devkit(root, 5, 2)
    with tarfile.open(root / "voc.tar", "w") as tar:
        tar.add(root / "VOCdevkit", "VOCdevkit")
    return (root / "voc.tar").read_bytes()


@pytest.fixture
def server(content):
    """Serves `content` as /voc.tar; `faults` lists what the next requests meet; `ranges` what they asked for."""
    state = SimpleNamespace(faults=[], ranges=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.ranges.append(self.headers.get("Range"))
            fault = state.faults.pop(0) if state.faults else None
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            if fault == "no range":
                start = 0
            if fault in (404, 416, 503):
                return self.send_error(fault)
            body = b"<!DOCTYPE html><p>Log in</p>" if fault in ("html", "html as tar") else content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Type", "text/html" if fault == "html" else "application/x-tar")
            self.send_header("Content-Length", str(len(body)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            half = len(body) // 2 if fault in ("cut", "hang") else len(body)
            self.wfile.write(body[:half] if fault != "damage" else bytes(len(body)))
            self.wfile.flush()
            if fault == "hang":
                time.sleep(1)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{http.server_port}/voc.tar"
    yield state
    http.shutdown()
    http.server_close()


@pytest.fixture
def fetch(server, content, tmp_path, monkeypatch):
    """download_voc from the server, without waiting between tries."""
    monkeypatch.setattr(download, "_wait", lambda _: None)
    md5 = hashlib.md5(content).hexdigest()
    return lambda **more: download_voc(
        tmp_path, **{"url": server.url, "size": len(content), "md5": md5, "timeout": 0.3} | more
    )


def leavings(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*.part"))


def test_download_and_read(fetch, tmp_path, capsys):
    assert fetch() == tmp_path / "VOCdevkit/VOC2012"
    assert len(VOC(tmp_path, split="trainval", size=32)) == 7 and not leavings(tmp_path)
    assert "Downloading" in capsys.readouterr().out


def test_a_complete_voc_is_left_alone(fetch, server, tmp_path, capsys):
    fetch()
    before = os.stat(tmp_path / "VOCdevkit/VOC2012/JPEGImages").st_mtime_ns
    fetch()
    assert len(server.ranges) == 1 and "complete: 7 pictures" in capsys.readouterr().out
    assert os.stat(tmp_path / "VOCdevkit/VOC2012/JPEGImages").st_mtime_ns == before


@pytest.fixture
def command(fetch, server, content, tmp_path, course, monkeypatch):
    """`data voc` from that server."""
    md5 = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(download.download_voc, "__defaults__", (server.url, len(content), md5, 0.3, 3))
    return lambda *more: course("data", "voc", "--root", tmp_path / "data", *more)


def kept(root: Path) -> list[str]:
    """The files in the folder, by name."""
    return sorted(path.name for path in root.rglob("*") if path.is_file())


# (fault, how, what the server does to each request, what is left)
SERVER = [
    ("host refuses", "three times 503", [503] * 3, []),
    ("address is gone", "three times 404", [404] * 3, []),
    ("host hangs", "silent after half of the bytes, three times", ["hang"] * 3, ["voc.tar.part"]),
    ("connection cut off", "closed after half of the rest, three times", ["cut"] * 3, ["voc.tar.part"]),
    ("HTML instead of a tar", "a page of a login, as text/html", ["html"], []),
    ("HTML under the type of a tar", "a page of a login, as application/x-tar", ["html as tar"], []),
    ("another content", "zeros of the right length", ["damage"], []),
]


@pytest.mark.parametrize("fault, made, faults, left", SERVER, ids=[row[0] for row in SERVER])
def test_a_server_that_misbehaves(fault, made, faults, left, command, server, tmp_path, told):
    server.faults = faults
    answer = command()
    told(fault, made, answer.said, answer.code)
    assert kept(tmp_path / "data") == left
    assert command().code == 0 and len(VOC(tmp_path / "data", split="trainval")) == 7  # it goes on, or starts anew


def test_no_host(command, server, content, tmp_path, told, monkeypatch):
    md5 = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(
        download.download_voc, "__defaults__", ("http://127.0.0.1:1/voc.tar", len(content), md5, 0.3, 3)
    )
    answer = command()
    told("host down, or no network", "nothing listens there", answer.said, answer.code)


def test_a_wrong_file_put_there_by_hand(command, content, tmp_path, told):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/voc.tar").write_bytes(content[:-512])
    answer = command()
    told("wrong archive put there by hand", "512 bytes short", answer.said, answer.code)
    assert kept(tmp_path / "data") == ["voc.tar"]


def test_an_incomplete_voc(command, tmp_path, told):
    write_devkit(tmp_path / "data", 3, 1)
    next((tmp_path / "data/VOCdevkit/VOC2012/SegmentationClass").glob("*0.png")).unlink()
    answer = command()
    told("VOC is there and not complete", "a mask deleted", answer.said, answer.code)


def test_made_scenes_in_the_place_of_voc(command, tmp_path, told):
    (write_devkit(tmp_path / "data", 3, 1) / "classes.txt").write_text("background\nbox\n")
    answer = command()
    told("made scenes in the place of VOC", "a classes.txt", answer.said, answer.code)


def test_a_file_in_the_place_of_root(command, tmp_path, told):
    (tmp_path / "data").write_text("x")
    answer = command()
    told("a file in the place of --root", "`x`", answer.said, answer.code)


def test_a_small_disk(command, server, tmp_path, told, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    answer = command()
    told("disk too small", "1,000 bytes free", answer.said, answer.code)
    assert not server.ranges and not kept(tmp_path / "data")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk(command, server, tmp_path, told):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/voc.tar.part").symlink_to("/dev/full")
    answer = command()
    told("disk full during the download", "the file is /dev/full", answer.said, answer.code)
    assert len(server.ranges) == 1


@pytest.mark.parametrize("fault", ["cut", "hang"])
def test_an_interrupted_download_goes_on(fetch, server, content, tmp_path, fault):
    server.faults = [fault]
    fetch()
    assert server.ranges == [None, f"bytes={len(content) // 2}-"] and not leavings(tmp_path)


def test_the_next_call_goes_on_too(fetch, server, tmp_path):
    server.faults = ["cut", 503]
    with pytest.raises(CourseError, match="in 2 tries .*503"):
        fetch(tries=2)
    assert leavings(tmp_path) == ["voc.tar.part"]
    fetch()
    assert server.ranges[-1].startswith("bytes=") and server.ranges[-1] != "bytes=0-"


def test_a_server_without_ranges_starts_anew(fetch, server, tmp_path):
    server.faults = ["cut", "no range"]
    fetch()
    assert len(VOC(tmp_path)) == 5


def test_a_damaged_beginning_starts_anew(fetch, server, tmp_path):
    (tmp_path / "voc.tar.part").write_bytes(b"x" * 100)
    with pytest.raises(CourseError, match="it was deleted, start again"):
        fetch()
    fetch()


def test_a_file_put_there_by_hand_is_used(fetch, server, content, tmp_path):
    (tmp_path / "voc.tar").write_bytes(content)
    fetch()
    assert not server.ranges


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_disk_full_while_unpacking_leaves_nothing(fetch, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", full)
        with pytest.raises(CourseError, match="could not write .*VOC2012: the disk is full"):
            fetch()
    assert not leavings(tmp_path) and not (tmp_path / "VOCdevkit/VOC2012").exists()
    fetch()  # from the archive that was kept


def test_a_killed_extraction_is_not_taken_for_complete(fetch, tmp_path):
    (tmp_path / "VOCdevkit/.VOC2012.part/VOCdevkit/VOC2012/JPEGImages").mkdir(parents=True)
    fetch()
    assert not leavings(tmp_path) and len(VOC(tmp_path)) == 5


# Archives


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = 2 if kind == tarfile.REGTYPE else 0
    return info


def archive(path, *members):
    with tarfile.open(path, "w") as tar:
        for info in (member("VOCdevkit/VOC2012/a.txt"), *members):
            tar.addfile(info, io.BytesIO(b"hi"))
    return path


MEMBERS = [
    ("member with '..'", member("VOCdevkit/VOC2012/../../../outside.txt")),
    ("member beside the root", member("../outside.txt")),
    ("member with an absolute path", member("/outside.txt")),
    ("member with backslashes", member("VOCdevkit\\..\\..\\outside.txt")),
    ("member with a drive of Windows", member("C:outside.txt")),
    ("member that is a link", member("VOCdevkit/VOC2012/link", tarfile.SYMTYPE, "../../..")),
    ("member that is a hard link", member("VOCdevkit/VOC2012/link", tarfile.LNKTYPE, "/etc/passwd")),
    ("member that is a pipe", member("VOCdevkit/VOC2012/pipe", tarfile.FIFOTYPE)),
    ("member that is a device", member("VOCdevkit/VOC2012/device", tarfile.CHRTYPE)),
    ("member whose name has a line feed", member("VOCdevkit/VOC2012/../a\nb")),
]


@pytest.mark.parametrize("fault, bad", MEMBERS, ids=[row[0] for row in MEMBERS])
def test_archives_that_leave_the_folder_are_refused_before_anything_is_written(
    fault, bad, server, tmp_path, course, told, monkeypatch
):
    (tmp_path / "data").mkdir()
    file = archive(tmp_path / "data/voc.tar", bad)
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setattr(download.download_voc, "__defaults__", (server.url, file.stat().st_size, md5, 0.3, 3))
    answer = course("data", "voc", "--root", tmp_path / "data")
    told(fault, f"`{bad.name!r}` in the archive", answer.said, answer.code)
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "voc.tar"]


def test_extract(tmp_path):
    folder = extract(archive(tmp_path / "good.tar"), tmp_path / "root")
    assert (folder / "a.txt").read_bytes() == b"hi" and not leavings(tmp_path)
    with pytest.raises(CourseError, match="is there already"):
        extract(tmp_path / "good.tar", tmp_path / "root")


def test_archives_that_cannot_be_read(tmp_path, content):
    (tmp_path / "page.tar").write_text("<html>")
    with pytest.raises(CourseError, match="page.tar is damaged or no tar"):
        extract(tmp_path / "page.tar", tmp_path)
    (tmp_path / "cut.tar").write_bytes(content[: len(content) // 2 + 100])
    with pytest.raises(CourseError, match="cut.tar is damaged"):
        extract(tmp_path / "cut.tar", tmp_path)
    with pytest.raises(FileNotFoundError, match="none.tar"):
        extract(tmp_path / "none.tar", tmp_path)
    with pytest.raises(CourseError, match="holds no VOCdevkit/VOC2007"):
        extract(archive(tmp_path / "other.tar"), tmp_path, "VOCdevkit/VOC2007")
    assert not (tmp_path / "VOCdevkit/VOC2012").exists() and not leavings(tmp_path)
