"""python -m mtl_course train."""

import argparse
import inspect
import os
import shlex
import sys
from pathlib import Path

import torch
import yaml

from mtl_course import datasets, distributed, models, training
from mtl_course.commands.check import refuse_damaged
from mtl_course.commands.evaluate import report
from mtl_course.commands.options import NOT_IN_FILES, STATES, open_data
from mtl_course.errors import CourseError, in_short, refuse_unknown
from mtl_course.files import owned, write_whole
from mtl_course.tasks import Tasks

# Flags that are arguments of fit, and of Objective, by the same name.
FOR_FIT = ("epochs", "weight_decay", "clip", "mean_weights", "device", "compile", "monitor", "patience", "resume")
FOR_OBJECTIVE = ("rule", "wrt", "precision")
OF_A_RUN = ("best.safetensors", "last.safetensors", "history.csv", *STATES)


def train(arguments: argparse.Namespace) -> int | None:
    """Train, or go on, in this process or in each that torchrun has started.

    Returns:
        The exit code if it was stopped: 130 after Ctrl-C and 143 after SIGTERM.
    """
    try:
        distributed.start(training.choose_device(arguments.device))
        _train(arguments)
    except KeyboardInterrupt as stop:
        if not any((arguments.out / name).is_file() for name in STATES):
            raise
        if distributed.is_main():
            where = str(stop).partition(";")[0] or "stopped"
            print(f"mtl_course: {where}; go on with: {_command(arguments.out)}", file=sys.stderr, flush=True)
        return 128 + getattr(stop, "signal", 2)
    except RuntimeError as error:
        if distributed.world() > 1 and ("gloo" in str(error) or isinstance(error, torch.distributed.DistError)):
            raise CourseError("another process stopped, whose own line says why; so this one stops too") from error
        raise
    finally:
        distributed.stop()


def _command(out: Path) -> str:
    """What goes on with a run."""
    processes = os.environ.get("LOCAL_WORLD_SIZE")
    start = f"torchrun --nproc-per-node={processes}" if processes else "python"
    return f"{start} -m mtl_course train --resume --out {shlex.quote(str(out))}"


def _train(arguments: argparse.Namespace) -> None:
    arguments.data, arguments.seed = arguments.data or "scenes", arguments.seed or 0
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    torch.manual_seed(arguments.seed)
    fit, select, val = (open_data(arguments, split) for split in ("fit", "select", "val"))
    model = _model(arguments, fit.tasks, fit.size)
    if distributed.rank():  # the same model everywhere, and then draws of one's own
        torch.manual_seed(arguments.seed + distributed.rank())
    options = _options(arguments, model, fit.tasks)
    pace = {"batch_size": arguments.batch_size, "workers": arguments.workers}
    loaders = datasets.loader(fit, train=True, seed=arguments.seed, **pace), datasets.loader(select, **pace)
    refuse_damaged(fit, select, val)
    talks = distributed.is_main()
    with owned(arguments.out if talks else None):
        if talks and not arguments.resume:
            write_whole(arguments.out / "config.yaml", _config(arguments))
        if talks:
            print(f"{len(fit)} pictures to learn from, {len(select)} to choose the epoch, {len(val)} to report; tasks "
                  f"{', '.join(fit.tasks)}; {sum(p.numel() for p in model.parameters()):,} parameters")  # fmt: skip
        training.fit(model, fit.tasks, *loaders, checkpoint=arguments.out, **options)
    scores = training.evaluate(model, fit.tasks, datasets.loader(val, **pace), arguments.device, progress=talks)
    if talks:
        report(scores)
        if arguments.data == "folder":
            print("these pictures chose the epoch too, so the scores are a little too good")
        print(f"best.safetensors, last.safetensors, history.csv and config.yaml are in {arguments.out}")


@torch.no_grad()
def _model(arguments: argparse.Namespace, tasks: Tasks, size: int) -> torch.nn.Module:
    """The model, its trunk with the options of --trunk-option and --pretrained; it is seen to answer a picture."""
    words = arguments.trunk_option + ["pretrained=true"] * arguments.pretrained
    name, texts = arguments.trunk.partition(":")[0], dict(word.partition("=")[::2] for word in words)
    if name in models.sharing.TRUNKS:
        refuse_unknown(f"option of {name}", texts, inspect.signature(models.sharing.TRUNKS[name]).parameters)
    try:
        options = {key: yaml.safe_load(text) for key, text in texts.items()}
        model = models.build(arguments.model, arguments.trunk, tasks, **options)
        model.eval()(torch.zeros(1, 3, size, size))
        return model
    except CourseError:
        raise
    except (TypeError, ValueError, LookupError, RuntimeError, yaml.YAMLError) as error:
        made = f"the trunk {' with '.join([name, *words])} answers no picture of {size} pixels a side"
        raise CourseError(f"{made} ({in_short(error)}): choose other options") from error


def _options(arguments: argparse.Namespace, model: torch.nn.Module, tasks: Tasks) -> dict:
    """The options of fit; what it would refuse is refused here, before anything is written."""
    options = {name: getattr(arguments, name) for name in FOR_FIT}
    choices = {name: getattr(arguments, name) for name in FOR_OBJECTIVE}
    choices["weights"] = _weights(arguments.weights, list(tasks))
    training.Objective(tasks, **choices).prepare(model, training.choose_device(arguments.device))
    training.Keeper(model, tasks, arguments.monitor, None)
    config = arguments.out / "config.yaml"
    taken = any((arguments.out / name).exists() for name in OF_A_RUN)
    if not arguments.resume and (taken or config.exists() and config.read_bytes() != _config(arguments)):
        raise CourseError(f"{arguments.out} holds a run already: choose another --out, move it away, or add --resume")
    options["augment"] = datasets.transforms.Jitter(arguments.jitter) if arguments.jitter else None
    options["lr"] = arguments.lr
    if arguments.trunk_lr:
        trunks = [name for name, module in model.named_modules() if isinstance(module, models.Trunk)]
        options["lr"] = {"": arguments.lr} | {f"{name}.down": arguments.trunk_lr for name in trunks}
    return options | choices


def _config(arguments: argparse.Namespace) -> bytes:
    """config.yaml: all that was chosen, by the names of the flags."""
    chosen = {name.replace("_", "-"): value for name, value in vars(arguments).items() if name not in NOT_IN_FILES}
    plain = {name: str(v) if isinstance(v, Path) else v for name, v in chosen.items() if v is not None}
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).encode()


def _weights(text: str | None, names: list[str]) -> dict[str, float] | None:
    if not text:
        return None
    try:
        return dict(zip(names, map(float, text.split(",")), strict=True))
    except ValueError:
        needed = f"--weights needs {len(names)} numbers >= 0 for {','.join(names)}"
        raise CourseError(f"{needed}, and got {text!r}") from None
