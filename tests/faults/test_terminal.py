"""Terminal and environment: what stands around a command, and what the course says of it."""

import os
import subprocess
import sys

import pytest

SECTION = "Terminal and environment"
COMMAND = [sys.executable, "-m", "mtl_course"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "MASTER_ADDR")}
    return kept | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"} | more


def test_a_reader_that_stops_reading_is_no_error():
    """As `... | head -1` does: the pipe is closed before the command has said all."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*COMMAND, "records", "list"], stdout=writer, stderr=subprocess.PIPE, text=True, env=environment()
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_without_chinese_gets_the_scores_all_the_same(tmp_path):
    words = ["--samples", "8", "--epochs", "1", "--size", "16", "--device", "cpu", "--tasks", "semantic"]
    done = subprocess.run(
        [*COMMAND, "train", *words, "--out", tmp_path / "跑"], capture_output=True, text=True,
        env=environment(LC_ALL="C", PYTHONIOENCODING="ascii"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "miou" in done.stdout and r"\u8dd1" in done.stdout and "Traceback" not in done.stderr
    assert (tmp_path / "跑" / "best.safetensors").is_file()


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_a_service_without_a_terminal_trains_all_the_same(tmp_path, closed):
    words = f"train --samples 8 --epochs 1 --size 16 --device cpu --tasks semantic --out {tmp_path}/run {closed}"
    line = f"exec {sys.executable} -m mtl_course {words}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment())
    assert done.returncode == 0 and "Traceback" not in done.stderr + done.stdout, done.stderr
    assert (tmp_path / "run" / "best.safetensors").is_file()


def test_the_home_folder_is_known_where_no_shell_has_looked(tmp_path, monkeypatch, course):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "options.yaml").write_text("out: ~/run\nsamples: 8\nepochs: 1\nsize: 16\ndevice: cpu\n")
    assert course("train", "--config=~/options.yaml").code == 0
    assert (tmp_path / "run/best.safetensors").is_file() and not (tmp_path / "~").exists()
    answer = course("evaluate", "--checkpoint=~/run/best.safetensors", "--json=~/scores.json", "--device", "cpu")
    assert answer.code == 0 and (tmp_path / "scores.json").is_file()


@pytest.mark.parametrize(
    "fault, set_to",
    [
        ("variables of torchrun that are no numbers", {"RANK": "0", "WORLD_SIZE": "two"}),
        ("variables of torchrun left over in a shell", {"RANK": "0", "WORLD_SIZE": "2"}),
    ],
)
def test_variables_of_torchrun(told, tmp_path, fault, set_to):
    words = ["--samples", "8", "--epochs", "1", "--size", "16", "--device", "cpu", "--out", tmp_path / "run"]
    done = subprocess.run([*COMMAND, "train", *words], capture_output=True, text=True, env=environment(**set_to))
    assert not (tmp_path / "run").exists()
    made = " ".join(f"{name}={value}" for name, value in set_to.items())
    told(fault, f"`{made}`", done.stderr, done.returncode)
