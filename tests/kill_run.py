"""Train, be killed by SIGKILL at random moments, go on, and compare with a run that nobody killed.

python tests/kill_run.py FOLDER KILLS SEED prints a JSON line: the kills, where they hit, and whether all is equal.
python tests/kill_run.py FOLDER KILLS SEED saves kills one run again and again while it saves, and looks after each
kill at what it left; the next child goes on with it.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from mtl_course import metrics, models, training  # noqa: F401, the children need not import it each
from mtl_course.datasets import Scenes
from mtl_course.datasets.transforms import Jitter
from mtl_course.errors import CourseError
from mtl_course.training import state, trainer

EPOCHS = 6
DATA = Scenes(24, size=32, tasks=["foreground", "depth"])


def has_state(folder: Path) -> bool:
    """Whether there is something to go on from."""
    return any((folder / name).exists() for name in (state.STATE, state.BEFORE))


def train(folder: Path) -> None:
    """A short run with everything that has a state: shuffling, augmentation, dropout, a rule that learns, EMA."""
    torch.manual_seed(0)
    model = models.HardSharing(models.UNet((4, 8)), DATA.tasks)
    for name, head in model.heads.items():
        model.heads[name] = nn.Sequential(nn.Dropout2d(0.2), head)
    generator = torch.Generator().manual_seed(3)
    training.fit(
        model, DATA.tasks, DataLoader(DATA, 4, shuffle=True, generator=generator), DataLoader(DATA, 8),
        epochs=EPOCHS, rule="grad_norm", mean_weights=0.9, augment=Jitter(), clip=1.0, device="cpu", progress=False,
        checkpoint=folder, resume=has_state(folder),
    )  # fmt: skip
    training.save(folder / "end.safetensors", model, DATA.tasks)


def child(folder: Path) -> int:
    """A process that trains in `folder`."""
    if (pid := os.fork()) == 0:
        try:
            train(folder)
        except BaseException as error:  # a child must not return into the parent's code
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid


def ended_within(pid: int, seconds: float) -> bool:
    """Wait so long for a process, and say whether it has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.001)
    return bool(os.waitpid(pid, os.WNOHANG)[0])


def finish(folder: Path) -> None:
    """Train to the end without a kill."""
    _, status = os.waitpid(child(folder), 0)
    if status:
        raise SystemExit(f"a run in {folder} failed")


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, bit by bit."""
    from safetensors.torch import load_file

    return load_file(folder / f"{name}.safetensors")


def equal(one: Path, other: Path) -> bool:
    """Whether the runs of two folders ended with the same bits, and the same history but for the seconds."""
    for name in ("end", "best", "last"):
        a, b = weights(one, name), weights(other, name)
        if a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
            return False
    rows = [json.loads((folder / "history.json").read_text()) for folder in (one, other)]
    kept = [[{k: v for k, v in row.items() if k not in ("seconds", "waiting")} for row in history] for history in rows]
    return kept[0] == kept[1]


def readable(folder: Path) -> bool:
    """Whether every file that bears its final name is whole."""
    try:
        if has_state(folder):
            state.newest_state(folder, {})
        for name in ("best", "last"):
            if (folder / f"{name}.safetensors").exists():
                weights(folder, name)
    except (CourseError, ValueError) as error:
        print(error, file=sys.stderr)
        return False
    return True


def steps(found: dict) -> int:
    """How many steps a state stands for, in the run of `save`."""
    return 4 * len(found["history"]) + found["stands"][0]["at"]["batches"]


def save(folder: Path, told: int) -> None:
    """Train without an end in tiny steps, each of them saved; the steps of a state that is written go into a pipe."""
    data = Scenes(8, size=16, tasks=["depth"])
    write = state.write_state

    def write_and_tell(path, content, *rest):
        write(path, content, *rest)
        os.write(told, steps(content).to_bytes(8, "little"))

    state.write_state, trainer.SAVE_EVERY = write_and_tell, 0.0
    torch.manual_seed(0)
    training.fit(
        models.build("hard", "unet", data.tasks, channels=(2, 4)), data.tasks, DataLoader(data, 2), device="cpu",
        progress=False, epochs=10**5, checkpoint=folder, resume=has_state(folder),
    )  # fmt: skip


def left(folder: Path, told: int) -> dict:
    """What a run that was killed after it had told of `told` steps left: nothing that was whole may be lost."""
    found, why = state.newest_state(folder, {})
    names = [name for name in ("best", "last") if (folder / f"{name}.safetensors").exists()]
    assert names or told <= 4  # the state of the fourth step comes before the epoch's models
    for name in names:
        training.load(folder / f"{name}.safetensors")
    return {"lost": max(told - steps(found), 0), "fell back": bool(why), "torn": len(list(folder.glob(".*.part")))}


def kill_saves(folder: Path, kills: int, draw: random.Random) -> list[dict]:
    """Kill one run so often, each time up to a quarter of a second after it has saved again."""
    outcomes, last = [], 0
    while len(outcomes) < kills:
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            try:
                save(folder, writer)
            finally:
                os._exit(1)
        os.close(writer)
        try:
            first = os.read(reader, 8)  # nothing, if the child could not go on
            assert first, f"no run after kill {len(outcomes)}"
            assert int.from_bytes(first, "little") >= last, "it went on before where it stood"
            time.sleep(draw.uniform(0, 0.25))
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        with open(reader, "rb") as pipe:
            last = int.from_bytes((first + pipe.read())[-8:], "little")
        outcomes.append(left(folder, last))
    return outcomes


def main() -> None:
    """Kill so many runs, each in a folder of its own, at a moment drawn from the length of the whole run."""
    root, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    if sys.argv[4:] == ["saves"]:
        outcomes = kill_saves(root / "run", kills, random.Random(seed))
        print(json.dumps({"kills": outcomes, "steps": steps(state.newest_state(root / "run", {})[0])}))
        return
    DATA.stack()  # made once, so that most of a child's time is training
    trainer.SAVE_EVERY = 0.0  # a state after every step: kills hit savings often, and hit within epochs
    draw = random.Random(seed)
    began = time.monotonic()
    finish(root / "whole")
    length = time.monotonic() - began
    outcomes = []
    while len(outcomes) < kills:
        folder, began = root / str(len(outcomes)), time.monotonic()
        pid = child(folder)
        if ended_within(pid, draw.uniform(0.02, 1.0) * length):  # on a machine less busy than before: draw again
            length = time.monotonic() - began
            shutil.rmtree(folder)
            continue
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        outcome = {"readable": readable(folder)}
        outcome["had a state"] = has_state(folder)
        outcome["torn files"] = len(list(folder.glob(".*.part")))
        finish(folder)
        outcomes.append(outcome | {"equal": equal(folder, root / "whole")})
        shutil.rmtree(folder)
    print(json.dumps({"seconds of a whole run": round(length, 2), "kills": outcomes}))


if __name__ == "__main__":
    main()
