"""`python -m mtl_course doctor`: is everything there that the course needs, and how is the rest mended?"""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from mtl_course.errors import MissingFile

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
    is_old = sys.version_info < (3, 11)  # noqa: UP036 (pip refuses it, a plain `python -m` does not)
    mend = "The course needs 3.11 or newer: install it, then `make env`." if is_old else ""
    return _row("Python", f"Python {platform.python_version()} in {sys.prefix}", fail=mend)


def check_packages() -> Row:
    """Every package that the course needs is installed in a version it accepts."""
    needed, wrong = _requirements(), []
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
    mend = "torch and torchvision must be released together; constraints.txt names a pair that works. " + REINSTALL
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return _row("PyTorch", f"does not work with torchvision: {_first_line(error)}", fail=mend)
    return _row("PyTorch", f"torch {torch.__version__}, torchvision {torchvision.__version__}")


def check_device() -> Row:
    """Where training will run."""
    import torch

    from mtl_course.training import choose_device

    kind = choose_device().type
    name = torch.cuda.get_device_name() if kind == "cuda" else platform.machine()
    return _row("device", f"{kind} ({name})" + ("; the lessons need no more" if kind == "cpu" else ""))


def check_threads() -> Row:
    """PyTorch uses no more threads than there are cores for it."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    mend = f"More threads than cores are slow: set OMP_NUM_THREADS={cores}." if threads > cores else ""
    return _row("threads", f"{threads} for PyTorch, {cores} cores", warn=mend)


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
    folder = Path(__file__).resolve().parent.parent
    free = shutil.disk_usage(folder).free / 1e9
    fail = "Checkpoints need about 0.5 GB: delete something." if free < 0.5 else ""
    warn = "Enough for the lessons; Pascal VOC needs about 5 GB more." if free < 5 else ""
    return _row("disk", f"{free:.1f} GB free in {folder}", fail, warn)


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


def check_extras() -> Row:
    """Which optional parts are installed; none is needed for the lessons."""
    extras = sorted(metadata.metadata("mtl_course").get_all("Provides-Extra") or [])
    there = [extra for extra in extras if all(any(metadata.distributions(name=r.name)) for r in _requirements(extra))]
    return _row("extras", f"installed: {', '.join(there) or 'none'}, of {', '.join(extras)}")


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]  # in the order above


def run_doctor() -> int:
    """Print a line for each check and what to do about it; return 0 when nothing failed, else 1."""
    rows = [_run(check) for check in CHECKS]
    for row in rows:
        print(f"{row.status.upper() if row.status == 'fail' else row.status:5} {row.name:9} {row.sentence}")
        if row.mend:
            print(f"{'':15} -> {row.mend}")
    failed = sum(row.status == "fail" for row in rows)
    print(f"{failed} of {len(rows)} checks failed; mend them first." if failed else "The course is ready.")
    return int(failed > 0)


def _run(check: Callable[[], Row]) -> Row:
    try:
        return check()
    except Exception as error:  # a broken package may raise anything; the other checks should still be seen
        name = check.__name__.removeprefix("check_")
        return _row(name, f"the check stopped: {type(error).__name__}: {_first_line(error)}", REINSTALL)


def _requirements(extra: str = "") -> list:
    """What the installed mtl_course says it needs, in base (no `extra`) or for one extra alone."""
    from packaging.requirements import Requirement

    every = [Requirement(line) for line in metadata.requires("mtl_course") or []]
    return [r for r in every if (r.marker.evaluate({"extra": extra}) if r.marker else not extra)]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
