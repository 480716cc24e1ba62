import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from mtl_course import doctor


def test_nothing_fails_in_a_working_environment(capsys):
    assert doctor.run_doctor() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "The course is ready."
    assert len([line for line in lines if line.startswith(("ok", "warn"))]) == len(doctor.CHECKS)


def test_the_command_runs_and_prints_no_traceback():
    answer = subprocess.run([sys.executable, "-m", "mtl_course", "doctor"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "The course is ready." in answer.stdout
    assert answer.stderr == ""


def test_an_old_package_and_a_missing_one_are_named(monkeypatch, capsys):
    real = doctor.metadata.version

    def version(name):
        if name == "safetensors":
            raise doctor.metadata.PackageNotFoundError(name)
        return "4.0.1" if name == "jupyterlab" else real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    row = doctor.check_packages()
    assert row.status == "fail"
    assert row.sentence == "safetensors is missing; jupyterlab is 4.0.1, needed is >=4.5.9"
    assert doctor.run_doctor() == 1
    assert "1 of 8 checks failed" in capsys.readouterr().out


def test_an_old_python_fails(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 4))
    assert doctor.check_python().status == "fail"


def test_torchvision_that_does_not_fit_torch_fails_with_a_sentence(monkeypatch):
    import torchvision

    def broken(*_):
        raise RuntimeError("operator torchvision::nms does not exist\nat some line")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    row = doctor.check_torch()
    assert row.status == "fail"
    assert row.sentence == "does not work with torchvision: operator torchvision::nms does not exist at some line"


@pytest.mark.parametrize("below", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_data_are_found_at_each_level_of_the_devkit(monkeypatch, tmp_path, below):
    (tmp_path / below / "ImageSets" / "Segmentation").mkdir(parents=True)
    monkeypatch.setenv("MTL_COURSE_DATA", str(tmp_path))
    assert doctor.check_data() == ("ok", "data", f"Pascal VOC in {(tmp_path / below).resolve()}", "")


def test_no_data_is_a_warning_and_none_is_respected(monkeypatch, tmp_path):
    monkeypatch.setenv("MTL_COURSE_DATA", str(tmp_path))
    row = doctor.check_data()
    assert row.status == "warn" and str(tmp_path) in row.mend and "data voc" in row.mend
    monkeypatch.setenv("MTL_COURSE_DATA", "none")
    assert doctor.check_data().status == "ok"


@pytest.mark.parametrize(("free", "status"), [(0.1e9, "fail"), (2e9, "warn"), (80e9, "ok")])
def test_free_disk(monkeypatch, free, status):
    usage = namedtuple("Usage", "total used free")(100e9, 0, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert doctor.check_disk().status == status


def test_a_missing_widget_front_end_fails(monkeypatch, tmp_path):
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *_: [str(tmp_path)])
    row = doctor.check_widgets()
    assert row.status == "fail" and "jupyterlab_widgets" in row.mend


def test_a_kernel_of_another_environment_fails(monkeypatch):
    spec = namedtuple("Spec", "argv")
    found = "jupyter_client.kernelspec.KernelSpecManager.get_kernel_spec"
    monkeypatch.setattr(found, lambda *_: spec(["/elsewhere/bin/python"]))
    assert doctor.check_kernel().status == "fail"
    monkeypatch.setattr(found, lambda *_: spec([str(Path(sys.executable).parent / "python3")]))
    assert doctor.check_kernel().status == "ok"


def test_a_check_that_stops_becomes_a_row():
    def check_surprise():
        raise OSError("disk on fire")

    assert doctor._run(check_surprise)[:3] == ("fail", "surprise", "the check stopped: OSError: disk on fire")


def test_importing_the_doctor_imports_nothing_heavy():
    code = "import sys, mtl_course.doctor; sys.exit(bool({'torch', 'matplotlib', 'jupyterlab'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ)).returncode == 0


def test_without_the_course_no_mend_speaks_of_its_folder(tmp_path):
    """A copy of the package alone, as a wheel installs it: nothing there is made by make."""
    package = Path(doctor.__file__).parent
    shutil.copytree(package, tmp_path / "mtl_course", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from mtl_course.doctor import *; print(FOLDER, REINSTALL); raise SystemExit(run_doctor())"
    free = os.environ | {"PYTHONPATH": str(tmp_path), "MTL_COURSE_DATA": "none"}
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=free, capture_output=True, text=True)
    assert str(tmp_path) in answer.stdout and "--force-reinstall" in answer.stdout
    assert answer.returncode == 0 and "The package is ready; the lessons are in" in answer.stdout, answer.stderr
    assert "make env" not in answer.stdout and "constraints" not in answer.stdout
