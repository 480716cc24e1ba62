"""A process for code that is not trusted: its own files, no network, bounded memory, time and answers."""

import contextlib
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
MAX_ANSWER = 32 * 2**20  # bytes
GRACE = 3.0  # seconds that a process has to say that it was stopped
FROM_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "fonts", "mime.types")
VARIABLES = {
    "HOME": "/tmp", "TMPDIR": "/tmp", "USER": "student", "LOGNAME": "student", "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8", "OMP_WAIT_POLICY": "passive", "MTL_COURSE_DATA": "none",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}  # fmt: skip


class BoxBroken(Exception):
    """A process that died, was killed, or sent what is no message; its text is one sentence."""


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Args:
        cell_seconds: time of a cell, and of one call by a test.
        total_seconds: time of the whole notebook.
        memory: bytes, of all processes of one box together.
        processes: how many there may be in a box.
    """

    cell_seconds: float = 120.0
    total_seconds: float = 600.0
    memory: int = 4 * 2**30
    processes: int = 64


def mounted() -> list[Path]:
    """The folders that a boxed process sees, read-only: the system's, Python's, the environment's and the package's."""
    package = importlib.util.find_spec("mtl_course")
    of_package = [Path(place) for place in package.submodule_search_locations] if package else []
    system = [Path(name) for name in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")]
    python = [Path(sys.base_prefix), Path(sys.prefix)]
    return [path for path in dict.fromkeys([*system, *python, *of_package]) if path.exists()]


def exposed(paths: Iterable[Path]) -> list[Path]:
    """Those of the paths that a boxed process could read."""
    roots = [root.resolve() for root in mounted()]
    return [path for path in paths if any(path.resolve().is_relative_to(root) for root in roots)]


def bubblewrap() -> list[str]:
    """The command that starts a program in a box: no network, no other processes, no files but those of `mounted`."""
    command = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    command += ["--cap-drop", "ALL", "--uid", "1000", "--gid", "1000", "--hostname", "homework"]
    # /tmp before what is mounted: the course itself may lie in /tmp.
    command += ["--size", str(2**20), "--tmpfs", "/", "--size", str(2**28), "--tmpfs", "/tmp"]
    for path in mounted():
        # /lib is often a link to usr/lib
        command += ["--symlink", os.readlink(path), str(path)] if path.is_symlink() else ["--ro-bind", *[str(path)] * 2]
    for name in FROM_ETC:
        command += ["--ro-bind-try", *[f"/etc/{name}"] * 2]
    command += ["--ro-bind-try", *["/sys/devices/system/cpu"] * 2, "--dev", "/dev", "--proc", "/proc"]
    for name in ("sys", "irq", "bus", "sysrq-trigger"):  # the uid of root may write here, even without any capability
        command += ["--ro-bind-try", *[f"/proc/{name}"] * 2]
    command += ["--size", str(2**28), "--tmpfs", "/dev/shm"]
    for name in ("worker.py", "plain.py"):
        command += ["--ro-bind", str(HERE / name), f"/grader/{name}"]
    command += ["--remount-ro", "/dev", "--remount-ro", "/"]
    return [*command, "--chdir", "/tmp"]


def bubblewrap_works() -> bool:
    """Whether bubblewrap is there and may make its namespaces here."""
    if not shutil.which("bwrap"):
        return False
    command = [*bubblewrap(), os.path.abspath(sys.executable), "-c", ""]
    return subprocess.run(command, capture_output=True, env=VARIABLES, timeout=60).returncode == 0


def memory_of(process: psutil.Process) -> int:
    """Bytes that a process has in memory, shared memory too, without files: the libraries are there once for all."""
    with contextlib.suppress(OSError):  # a system without /proc
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        if "RssAnon" in found:
            return 1024 * sum(int(found[name].split()[0]) for name in ("RssAnon", "RssShmem"))
    return process.memory_info().rss


class Box:
    """One process of worker.py.

    Args:
        isolated: whether in bubblewrap; else as a plain process, which can read and write all that the grader can.
        limits: memory and number of processes.
    """

    def __init__(self, isolated: bool, limits: Limits):
        self.isolated, self.limits, self._looked, self.closed = isolated, limits, 0.0, False
        self._number = 0  # of the last message
        folder = "/grader" if isolated else str(HERE)
        # Without a box: a folder of its own, so that careless code leaves nothing here.
        self._home = None if isolated else tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        program = [os.path.abspath(sys.executable), "-I", f"{folder}/worker.py", str(limits.memory)]
        command = [*bubblewrap(), *program] if isolated else program
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=self._home.name if self._home else None, bufsize=0, start_new_session=True,
            # Nothing of the teacher's environment: in a box the first process shows its own in /proc/1/environ.
            env=VARIABLES if isolated else os.environ | VARIABLES | dict.fromkeys(("HOME", "TMPDIR"), self._home.name),
        )  # fmt: skip
        for pipe in (self.process.stdin, self.process.stdout):
            os.set_blocking(pipe.fileno(), False)

    def ask(self, message: dict, seconds: float) -> dict:
        """Send a message and wait for its answer.

        Raises:
            BoxBroken: if there is none within the seconds and a grace, or it answers another message.
        """
        self._number += 1
        self.send(json.dumps(message | {"number": self._number}).encode(), seconds)
        answer = self.parse(self.receive(seconds))
        if answer.get("number") != self._number:
            raise self._broken("it sent an answer that was not asked for")
        return answer

    def send(self, data: bytes, seconds: float) -> None:
        """Send the bytes of a message."""
        end = time.monotonic() + seconds + GRACE
        left = memoryview(len(data).to_bytes(8) + data)
        while left:
            self._wait([], [self.process.stdin], end)
            try:
                left = left[self.process.stdin.write(left) or 0 :]
            except OSError:
                raise self._ended() from None

    def receive(self, seconds: float) -> bytes:
        """The bytes of the next message."""
        end = time.monotonic() + seconds + GRACE
        size = int.from_bytes(self._read(8, end))
        if size > MAX_ANSWER:
            raise self._broken(f"its answer was larger than {MAX_ANSWER >> 20} MiB")
        return self._read(size, end)

    def parse(self, data: bytes) -> dict:
        """The message that the bytes hold."""
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            message = None
        if type(message) is not dict:
            raise self._broken("it sent what is no message")
        return message

    def _read(self, size: int, end: float) -> bytes:
        parts = []
        while size:
            self._wait([self.process.stdout], [], end)
            part = self.process.stdout.read(min(size, 2**20))
            if not part:
                raise self._ended()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _wait(self, reading: list, writing: list, end: float) -> None:
        """Wait until a pipe is ready, and watch over memory and processes meanwhile."""
        if self.closed:
            raise BoxBroken("The process had ended before.")
        while True:
            ready = any(select.select(reading, writing, [], 0.1))
            if time.monotonic() - self._looked > 0.2:
                self._look()
            if ready:
                return
            if time.monotonic() > end:
                raise self._broken("it did not stop when its time was over")

    def _look(self) -> None:
        self._looked = time.monotonic()
        processes, memory = self._family(), 0
        for process in processes:
            with contextlib.suppress(psutil.Error):
                memory += memory_of(process)
        if len(processes) > self.limits.processes:
            raise self._broken(f"it had more than {self.limits.processes} processes")
        if memory > self.limits.memory:
            raise self._broken(f"it used more than {self.limits.memory / 2**30:g} GiB of memory")

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        return []

    def _ended(self) -> BoxBroken:
        self.close()
        return BoxBroken("The process ended before its answer came.")

    def _broken(self, why: str) -> BoxBroken:
        self.close()
        return BoxBroken(f"The process was ended, because {why}.")

    def close(self) -> None:
        """Kill the process and its children."""
        if self.closed:
            return
        self.closed = True
        family = self._family()  # a killed bubblewrap takes its children along; plain processes do not
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()
        if self._home:
            self._home.cleanup()
