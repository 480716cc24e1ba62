"""Download and unpacking, against a server on this machine that misbehaves."""

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
from mtl_course.commands.scenes_voc import write_scenes_voc
from mtl_course.datasets import VOC
from mtl_course.errors import CourseError, MissingFile


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


def test_an_incomplete_voc_is_told(fetch, tmp_path):
    write_devkit(tmp_path, 3, 1)
    next((tmp_path / "VOCdevkit/VOC2012/SegmentationClass").iterdir()).unlink()
    with pytest.raises(CourseError, match="1 of 4 pictures have no mask.*move .*VOC2012 away"):
        fetch()


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


def test_a_part_that_the_server_refuses_starts_anew(fetch, server, tmp_path):
    (tmp_path / "voc.tar.part").write_bytes(b"x" * 100)
    server.faults = [416]
    fetch()
    assert server.ranges == ["bytes=100-", None]


@pytest.mark.parametrize("fault", ["html", "html as tar"])
def test_a_web_page_is_not_an_archive(fetch, server, tmp_path, fault):
    server.faults = [fault]
    with pytest.raises(CourseError, match="a web page came instead of the archive"):
        fetch()
    assert not list(tmp_path.iterdir())


def test_a_damaged_archive_is_deleted(fetch, server, tmp_path):
    server.faults = ["damage"]
    with pytest.raises(CourseError, match=r"voc.tar.part .* is not the archive .* it was deleted"):
        fetch()
    assert not list(tmp_path.iterdir())


def test_a_damaged_beginning_starts_anew(fetch, server, tmp_path):
    (tmp_path / "voc.tar.part").write_bytes(b"x" * 100)
    with pytest.raises(CourseError, match="it was deleted, start again"):
        fetch()
    fetch()


@pytest.mark.parametrize("fault", [404, 503])
def test_server_errors_say_where_to_put_the_file(fetch, server, tmp_path, fault):
    server.faults = [fault] * 3
    with pytest.raises(CourseError, match=f"{fault}.*put the file voc.tar .* into {tmp_path}"):
        fetch()
    assert len(server.ranges) == 3


def test_no_network(fetch, tmp_path):
    with pytest.raises(CourseError, match="3 tries .*refused.*put the file voc.tar"):
        fetch(url="http://127.0.0.1:1/voc.tar")


def test_a_file_put_there_by_hand_is_used(fetch, server, content, tmp_path):
    (tmp_path / "voc.tar").write_bytes(content)
    fetch()
    assert not server.ranges
    shutil.rmtree(tmp_path / "VOCdevkit")
    (tmp_path / "voc.tar").write_bytes(content[:-512])
    with pytest.raises(CourseError, match=r"voc.tar .* is not the archive .* delete it"):
        fetch()
    assert (tmp_path / "voc.tar").exists()


def test_disk_too_small(fetch, server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(CourseError, match="GB are needed.*choose another --root"):
        fetch()
    assert not server.ranges


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_disk_full_while_downloading(fetch, server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "tqdm", FullBar)
    with pytest.raises(CourseError, match="voc.tar.part: the disk is full, make room, and start again to go on"):
        fetch()
    assert len(server.ranges) == 1 and leavings(tmp_path) == ["voc.tar.part"]


class FullBar:
    """Fails as a write to a full disk does, after the first bytes."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    update = full


def test_disk_full_while_unpacking_leaves_nothing(fetch, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", full)
        with pytest.raises(CourseError, match="could not write .*VOC2012: the disk is full"):
            fetch()
    assert not leavings(tmp_path) and not (tmp_path / "VOCdevkit/VOC2012").exists()
    fetch()  # from the archive that was kept


def test_a_file_in_the_place_of_the_folder(fetch, content, tmp_path):
    (tmp_path / "VOCdevkit").write_text("x")
    with pytest.raises(CourseError, match="could not write"):
        fetch()
    with pytest.raises(CourseError, match="could not write"):
        download_voc(tmp_path / "VOCdevkit" / "deeper")


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


@pytest.mark.parametrize(
    "bad, message",
    [
        (member("VOCdevkit/VOC2012/../../../outside.txt"), "would leave"),
        (member("../outside.txt"), "would leave"),
        (member("/outside.txt"), "would leave"),
        (member("VOCdevkit\\..\\..\\outside.txt"), "would leave"),
        (member("C:outside.txt"), "would leave"),
        (member("VOCdevkit/VOC2012/link", tarfile.SYMTYPE, "../../.."), "link or device"),
        (member("VOCdevkit/VOC2012/link", tarfile.LNKTYPE, "/etc/passwd"), "link or device"),
        (member("VOCdevkit/VOC2012/pipe", tarfile.FIFOTYPE), "link or device"),
        (member("VOCdevkit/VOC2012/device", tarfile.CHRTYPE), "link or device"),
    ],
)
def test_archives_that_leave_the_folder_are_refused_before_anything_is_written(tmp_path, bad, message):
    file = archive(tmp_path / "bad.tar", bad)
    with pytest.raises(CourseError, match=message) as caught:
        extract(file, tmp_path / "inside" / "root")
    assert "bad.tar" in str(caught.value) and repr(bad.name) in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["bad.tar"]


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
    with pytest.raises(MissingFile, match="none.tar"):
        extract(tmp_path / "none.tar", tmp_path)
    with pytest.raises(CourseError, match="holds no VOCdevkit/VOC2007"):
        extract(archive(tmp_path / "other.tar"), tmp_path, "VOCdevkit/VOC2007")
    assert not (tmp_path / "VOCdevkit/VOC2012").exists() and not leavings(tmp_path)


# Made scenes as a VOCdevkit


def test_scenes_as_voc(tmp_path):
    folder = write_scenes_voc(tmp_path, 6, 3, size=48, seed=1)
    assert folder == tmp_path / "VOCdevkit/VOC2012"
    train = VOC(tmp_path, tasks=("semantic", "foreground", "boundary"), size=48)
    assert len(train) == 6 and len(VOC(tmp_path, split="val")) == 3
    assert train.classes == ("background", "sphere", "box", "cylinder", "cone")
    shares = [(sample["foreground"] == 1).float().mean() for sample in train]
    assert 0.1 < sum(shares) / 6 < 0.6
    assert all((sample["boundary"] == 1).any() for sample in train)
    with pytest.raises(CourseError, match="is there already"):
        write_scenes_voc(tmp_path, 1, 1)


def test_scenes_as_voc_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(CourseError, match="the disk is full, make room"):
        write_scenes_voc(tmp_path, 2, 1, size=32)
    assert not list((tmp_path / "VOCdevkit").iterdir())


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("PIL.Image.Image.save", stop)
    with pytest.raises(KeyboardInterrupt):
        write_scenes_voc(tmp_path, 2, 1, size=32)
    assert not list((tmp_path / "VOCdevkit").iterdir())
