"""`python -m mtl_course doctor`: is everything there that the course needs, and how is the rest mended?"""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from mtl_course.errors import MissingFile, in_short

FOLDER = Path(__file__).resolve().parent.parent
IS_COURSE = (FOLDER / "constraints.txt").is_file()  # else the package alone is installed, from a wheel
REINSTALL = "Install it anew in this environment: pip install --force-reinstall, and the wheel of mtl_course."
if IS_COURSE:
    REINSTALL = "Run `make env`, or: pip install -c constraints.txt -e '.[test,photos]' in the course's folder."


class Row(NamedTuple):
    """One finding: `status` is ok, warn or fail; `mend` says what to do and is empty when nothing is to be done."""

    status: str
    name: str
    sentence: str
    mend: str = ""


def _row(name: str, sentence: str, fail: str = "", warn: str = "") -> Row:
    """A finding; `fail` and `warn` say what to do, and are empty where all is well."""
    return Row("fail" if fail else "warn" if warn else "ok", name, sentence, fail or warn)


def check_python() -> Row:
    """The interpreter is new enough."""
    # pip refuses an older one, a plain `python -m` does not
    mend = "" if sys.version_info >= (3, 11) else f"The course needs 3.11 or newer: install that first. {REINSTALL}"
    return _row("Python", f"Python {platform.python_version()} in {sys.prefix}", fail=mend)


def check_packages() -> Row:
    """Every package that the course needs is installed in a version it accepts."""
    from packaging.requirements import Requirement

    every, wrong = [Requirement(line) for line in metadata.requires("mtl_course") or []], []
    needed = [one for one in every if not one.marker or one.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
            if not requirement.specifier.contains(version, prereleases=True):
                wrong.append(f"{requirement.name} is {version}, needed is {requirement.specifier}")
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
    right = f"mtl_course {metadata.version('mtl_course')} and {len(needed)} packages it needs"
    return _row("packages", "; ".join(wrong) or right, fail=REINSTALL if wrong else "")


def check_torch() -> Row:
    """PyTorch and torchvision load, and belong together."""
    mend = f"torch and torchvision belong together, and each torchvision asks for its own torch. {REINSTALL}"
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return _row("PyTorch", f"does not work with torchvision: {in_short(error)}", fail=mend)
    return _row("PyTorch", f"torch {torch.__version__}, torchvision {torchvision.__version__}")


def check_device() -> Row:
    """Where training will run."""
    import torch

    from mtl_course.training import choose_device

    kind = choose_device().type
    name = torch.cuda.get_device_name() if kind == "cuda" else platform.machine()
    return _row("device", f"{kind} ({name})" + ("; the lessons need no more" if kind == "cpu" else ""))


def check_data() -> Row:
    """Pascal VOC is found, or the lessons will use made pictures."""
    from mtl_course.datasets.voc import voc_folder

    try:
        return _row("data", f"Pascal VOC in {voc_folder()}")
    except MissingFile as error:
        mend = "" if os.environ.get("MTL_COURSE_DATA") == "none" else str(error)
        return _row("data", "no Pascal VOC: the lessons use pictures that they make themselves", warn=mend)


def check_disk() -> Row:
    """There is room for checkpoints, and for Pascal VOC."""
    free = shutil.disk_usage(FOLDER).free / 1e9
    fail = "Checkpoints need about 0.5 GB: delete something." if free < 0.5 else ""
    warn = "Enough for the lessons; Pascal VOC needs about 5 GB more." if free < 5 else ""
    return _row("disk", f"{free:.1f} GB free in {FOLDER}", fail, warn)


def check_widgets() -> Row:
    """JupyterLab finds those parts of ipywidgets and anywidget that run in the browser."""
    from jupyter_core.paths import jupyter_path

    parts = {"jupyterlab_widgets": "@jupyter-widgets/jupyterlab-manager", "anywidget": "anywidget"}
    for package, part in parts.items():
        if not any(Path(folder, part, "package.json").is_file() for folder in jupyter_path("labextensions")):
            mend = f"pip install --force-reinstall {package}, in this environment; then reload JupyterLab's page."
            return _row("widgets", f"JupyterLab will not find the front end of {package}: no viewer shows", fail=mend)
    return _row("widgets", f"ipywidgets {metadata.version('ipywidgets')}, anywidget, and their front ends")


def check_kernel() -> Row:
    """A notebook's kernel is the Python of this environment."""
    from jupyter_client.kernelspec import KernelSpecManager

    program = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    if program.parent not in (Path(), Path(sys.executable).parent):  # for a bare name Jupyter takes its own Python
        mend = f"{sys.executable} -m ipykernel install --sys-prefix"
        return _row("kernel", f"notebooks would run in {program}, not in {sys.executable}", fail=mend)
    return _row("kernel", f"notebooks run in {sys.executable}")


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]  # in the order above


def run_doctor() -> int:
    """Print a line for each check and what to do about it; return 0 when nothing failed, else 1."""
    rows = [_run(check) for check in CHECKS]
    for row in rows:
        print(f"{row.status.upper() if row.status == 'fail' else row.status:5} {row.name:9} {row.sentence}")
        if row.mend:
            print(f"{'':15} -> {row.mend}")
    failed = sum(row.status == "fail" for row in rows)
    ready = "The course is ready." if IS_COURSE else "The package is ready; the lessons are in the course's own folder."
    print(f"{failed} of {len(rows)} checks failed; mend them first." if failed else ready)
    return int(failed > 0)


def _run(check: Callable[[], Row]) -> Row:
    try:
        return check()
    except Exception as error:  # a broken package may raise anything; the other checks should still be seen
        name = check.__name__.removeprefix("check_")
        return _row(name, f"the check stopped: {type(error).__name__}: {in_short(error)}", REINSTALL)
