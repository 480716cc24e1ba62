"""Fixtures: a real JupyterLab, started by `make lab`, and a page of Chromium. MTL_COURSE_CHROMIUM names a browser."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import nbformat
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
SETTINGS = {
    # Every cell stays in the page, seen or not, and nothing comes after the last.
    "notebook-extension/tracker": '{"windowingMode": "none", "scrollPastEnd": false}',
    "apputils-extension/notification": '{"fetchNews": "false"}',  # no question over the notebook
}
KERNEL_IS_READY = """() => {
    const name = document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-KernelName');
    const status = document.querySelector('#jp-main-statusbar')?.innerText ?? '';
    return name !== null && !name.innerText.includes('No Kernel') && status.includes('| Idle');
}"""
RUN_IS_OVER = """() => {
    const page = document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden)');
    const every = [...page.querySelectorAll('.jp-CodeCell')];
    const cells = every.filter(c => c.querySelector('.cm-content')?.innerText.trim());
    const done = cells.every(c => /\\[\\d+\\]/.test(c.querySelector('.jp-InputPrompt').innerText));
    const failed = page.querySelector('[data-mime-type="application/vnd.jupyter.stderr"]');  // a traceback too
    const idle = page.querySelector('.jp-Notebook-ExecutionIndicator').dataset.status === 'idle';
    return idle && cells.length > 0 && (done || failed !== null);
}"""


class Lab(NamedTuple):
    """A running JupyterLab: its address, its token, and the copy of the course that it serves."""

    url: str
    token: str
    root: Path


def copy_of_the_course(folder: Path) -> Path:
    """The lessons without outputs, beside the real data: saving in the browser must not touch the checkout."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / "data").symlink_to(ROOT / "data")
    for name in LESSONS:
        notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / "notebooks" / name)
    return folder


def private_environment(folder: Path) -> dict[str, str]:
    """JupyterLab keeps its settings, workspaces and run files in `folder`, and our own settings stay untouched."""
    places = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    environment |= {f"JUPYTER_{place}": str(folder / place.lower()) for place in places}
    environment |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "MTL_COURSE_DATA": "none"}
    environment |= {"JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    for name, text in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, server: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")


@contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """JupyterLab on a copy of the course, with its files in `folder`."""
    root, token, port = copy_of_the_course(folder / "course"), secrets.token_hex(16), free_port()
    flags = f"--no-browser --ServerApp.port={port} --IdentityProvider.token={token} --ServerApp.root_dir={root}"
    # `-o` lets make take the running environment as it is, however it was made.
    command = ["make", "-o", f"{sys.prefix}/.ready", "lab", f"VENV={sys.prefix}", f"LAB_FLAGS={flags}"]
    log = folder / "log.txt"
    with log.open("w") as out:
        server = subprocess.Popen(
            command, cwd=ROOT, env=private_environment(folder), stdout=out, stderr=out, start_new_session=True
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/api/status?token={token}", server, log)
            yield Lab(f"http://127.0.0.1:{port}", token, root)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=30)


@contextmanager
def running_browser(program: str) -> Iterator["Browser"]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()


def find_chromium() -> str | None:
    return os.environ.get("MTL_COURSE_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="session")
def browser():
    program = find_chromium()
    if program is None:
        reason = "Chromium was not found: `apt-get install chromium`, or name one in MTL_COURSE_CHROMIUM"
        if os.environ.get("MTL_COURSE_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with running_browser(program) as chromium:
        yield chromium


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    yield page
    page.close()


def write_notebook(lab: Lab, name: str, *sources: str) -> None:
    """A notebook of code cells beside the lessons."""
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), lab.root / "notebooks" / name)


def open_lesson(page, lab: Lab, name: str) -> None:
    """Open a lesson and wait until its kernel is ready."""
    page.goto(f"{lab.url}/lab/tree/notebooks/{name}?reset&token={lab.token}")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    page.wait_for_selector(".jp-NotebookPanel:visible .jp-Notebook", timeout=60_000)
    page.wait_for_function(KERNEL_IS_READY, timeout=60_000)


def run_all(page, seconds: float = 180) -> None:
    """Run > Run All Cells, and wait until every cell has run or one has failed."""
    page.click('.lm-MenuBar-itemLabel:text-is("Run")')
    page.click('[data-command="runmenu:run-all"]')
    page.wait_for_function(RUN_IS_OVER, timeout=seconds * 1000, polling=500)
