"""The command line: python -m mtl_course train | evaluate | data | records | doctor.

Exit code 0, or 2 for a mistake of the user, told in one sentence on stderr; 130 after Ctrl-C.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtl_course.errors import CourseError, refuse_unknown

if TYPE_CHECKING:
    from torch.utils.data import DataLoader, Dataset

SIZES = {"scenes": 64, "voc": 128, "folder": 128}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `python -m mtl_course`; default those of this process.

    Returns:
        The exit code.
    """
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments) or 0
    except CourseError as error:
        print(f"mtl_course: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a path that no file system takes, a folder in the place of a file ...
        print(
            f"mtl_course: {error.filename or 'a file'}: {error.strerror or error}: look at this path", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("mtl_course: interrupted; what was written so far is whole and stays", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mtl_course", description="Train and test multi-task segmenters.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="train a model and score it", description=_train.__doc__)
    _train_options(train)
    train.set_defaults(command=_train)
    evaluate = commands.add_parser("evaluate", help="score a checkpoint", description=_evaluate.__doc__)
    evaluate.add_argument("--checkpoint", type=Path, required=True, help="a .safetensors file that train wrote")
    evaluate.add_argument("--json", type=Path, help="also write the scores to this file")
    _data_options(evaluate)
    evaluate.set_defaults(command=_evaluate, samples=0)  # it scores no picture of the training
    data = commands.add_parser("data", help="fetch or make data", description=_data.__doc__)
    data.add_argument("what", choices=("voc", "scenes"))
    data.add_argument(
        "--root", type=Path, help="folder that gets VOCdevkit; default voc: data, scenes: runs/scenes_voc"
    )
    data.add_argument("--samples", type=_positive, default=200, help="scenes: pictures to make; default 200")
    data.add_argument("--size", type=_positive, default=128, help="scenes: height and width in pixels; default 128")
    data.add_argument("--seed", type=_seed, default=0)
    data.set_defaults(command=_data)
    records = commands.add_parser("records", help="results of long runs", description=_records.__doc__)
    records.add_argument("action", choices=("list", "run", "verify", "show", "claims"))
    records.add_argument(
        "name", nargs="?", help="of the experiment, a file in data/records; for all but list and claims"
    )
    records.add_argument("--arms", metavar="A,B,...", help="run: only these arms for now; default all")
    records.add_argument("--fresh", action="store_true", help="run: start anew, and drop the results so far")
    records.add_argument("--write", action="store_true", help="claims: into README.md instead of the screen")
    records.set_defaults(command=_records)
    doctor = commands.add_parser("doctor", help="check the installation and say how to mend it")
    doctor.set_defaults(command=_doctor)
    return parser


def _train_options(train: argparse.ArgumentParser) -> None:
    _data_options(train)
    train.add_argument(
        "--model", default="hard", help="single, hard, soft, cross-stitch, attention or mixture; default hard"
    )
    train.add_argument("--trunk", default="unet", help="the trunk; default unet")
    train.add_argument(
        "--rule", default="equal", help="source of the loss weights, such as cagrad:c=0.4; a wrong name lists all"
    )
    train.add_argument("--wrt", default="parameters", help="gradients that a rule reads: parameters or representation")
    train.add_argument("--weights", metavar="W,W,...", help="fixed loss weights, one a task, in the order of --tasks")
    train.add_argument("--epochs", type=_positive, default=10)
    train.add_argument("--lr", type=_rate, default=3e-3, help="highest learning rate of the cycle; default 0.003")
    train.add_argument(
        "--monitor", metavar="TASK.METRIC", help="what says which epoch is best; default the first task's"
    )
    train.add_argument("--samples", type=_positive, default=400, help="scenes: pictures to train on; default 400")
    train.add_argument("--precision", default="fp32", help="fp32, bf16 or fp16")
    train.add_argument("--out", type=Path, default=Path("runs/last"), help="folder of the results; default runs/last")


def _data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="scenes, voc or folder; default scenes")
    parser.add_argument("--root", help="folder of the data; default for voc: MTL_COURSE_DATA or data")
    parser.add_argument(
        "--tasks", help="names with commas, such as semantic,depth; default all of scenes, else semantic"
    )
    parser.add_argument("--classes", help="class names with commas: score these, ignore the others (voc, folder)")
    parser.add_argument("--size", type=_positive, help="height and width in pixels; default scenes 64, else 128")
    parser.add_argument("--batch-size", type=_positive, default=16)
    parser.add_argument("--seed", type=_seed, help="default 0")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def _number(kind: type, low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"a number from {low} to {high} is expected, and not {text!r}")
        return value

    return read


_positive, _seed, _rate = _number(int, 1, 10**7), _number(int, 0, 2**62), _number(float, 1e-9, 1e3)


def _split(text: str | None) -> list[str] | None:
    if text is None:
        return None
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise CourseError(f"names with commas are expected, and not {text!r}")
    return words


def _open(arguments: argparse.Namespace, split: str, augment: bool = False) -> "Dataset":
    """The data set of one split: "fit" to learn from, "select" to choose the epoch, "val" to report."""
    from mtl_course import datasets

    kind = arguments.data or "scenes"
    refuse_unknown("data", [kind], SIZES)
    size = arguments.size or SIZES[kind]
    if kind == "scenes":
        if arguments.root or arguments.classes:
            raise CourseError("scenes are made, so --root and --classes say nothing: leave them out, or name --data")
        # Item i depends on (seed, i) alone, so other seeds are other pictures.
        count = {"fit": arguments.samples, "select": max(arguments.samples // 4, 8), "val": 200}[split]
        offset = {"fit": 0, "select": 1_000_003, "val": 2_000_003}[split]
        return datasets.Scenes(count, size=size, seed=(arguments.seed or 0) + offset, tasks=_split(arguments.tasks))
    options = {"classes": _split(arguments.classes), "size": size, "augment": augment}
    options["tasks"] = _split(arguments.tasks) or ["semantic"]
    if kind == "voc":
        return datasets.VOC(arguments.root, split=split, **options)
    if arguments.root is None:
        raise CourseError("--data folder needs --root: a folder that holds images/ and masks/")
    return datasets.Folder(arguments.root, split="fit" if split == "fit" else "select", **options)


def _loader(data: "Dataset", arguments: argparse.Namespace, shuffle: bool = False) -> "DataLoader":
    import torch
    from torch.utils.data import DataLoader

    generator = torch.Generator().manual_seed(arguments.seed or 0)
    return DataLoader(data, arguments.batch_size, shuffle=shuffle, generator=generator)


def _train(arguments: argparse.Namespace) -> None:
    """Train on one part of the training data, keep the epoch that is best on the other, and score that on val.

    Scenes make a val of their own. A folder has none: its score is that of the pictures that chose the epoch.
    """
    import torch
    import yaml

    from mtl_course import models, training
    from mtl_course.files import write_whole

    arguments.data, arguments.seed = arguments.data or "scenes", arguments.seed or 0
    torch.manual_seed(arguments.seed)
    fit, select, val = (_open(arguments, split, augment=split == "fit") for split in ("fit", "select", "val"))
    model = models.build(arguments.model, arguments.trunk, fit.tasks)
    options = {name: getattr(arguments, name) for name in ("epochs", "lr", "device", "monitor")}
    choices = {
        "rule": arguments.rule,
        "wrt": arguments.wrt,
        "precision": arguments.precision,
        "weights": _weights(arguments, list(fit.tasks)),
    }
    # What fit would refuse is refused before anything is written.
    training.Objective(fit.tasks, **choices).prepare(model, training.choose_device(arguments.device))
    training.Keeper(model, fit.tasks, arguments.monitor, None)
    if (arguments.out / "best.safetensors").exists():
        raise CourseError(f"{arguments.out} holds a run already: choose another --out, or move it away")
    config = {key: str(v) if isinstance(v, Path) else v for key, v in vars(arguments).items() if key != "command"}
    write_whole(arguments.out / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode())
    print(f"{len(fit)} pictures to learn from, {len(select)} to choose the epoch, {len(val)} to report; tasks "
          f"{', '.join(fit.tasks)}; {sum(p.numel() for p in model.parameters()):,} parameters")  # fmt: skip
    loaders = _loader(fit, arguments, shuffle=True), _loader(select, arguments)
    training.fit(model, fit.tasks, *loaders, checkpoint=arguments.out, **options, **choices)
    _report(training.evaluate(model, fit.tasks, _loader(val, arguments), arguments.device))
    if arguments.data == "folder":
        print("these pictures chose the epoch too, so the scores are a little too good")
    print(f"best.safetensors, last.safetensors, history.csv and config.yaml are in {arguments.out}")


def _weights(arguments: argparse.Namespace, names: list[str]) -> dict[str, float] | None:
    if not arguments.weights:
        return None
    try:
        values = [float(word) for word in arguments.weights.split(",")]
    except ValueError:
        values = []
    if len(values) != len(names) or not all(0 <= value < math.inf for value in values):
        needed = f"{len(names)} numbers >= 0 for {','.join(names)}"
        raise CourseError(f"--weights needs {needed}, and got {arguments.weights!r}")
    return dict(zip(names, values))


def _evaluate(arguments: argparse.Namespace) -> None:
    """Score a checkpoint on the val split of the data (of a folder: its select part).

    What is not said of the data is taken from config.yaml beside the checkpoint.
    """
    from mtl_course import training
    from mtl_course.files import write_whole

    model, tasks = training.load(arguments.checkpoint)
    _recall(arguments)
    arguments.tasks = arguments.tasks or ",".join(tasks)
    data = _open(arguments, "val")
    print(f"{len(data)} pictures of {arguments.data or 'scenes'}; tasks {', '.join(data.tasks)}")
    refuse_unknown("task of this checkpoint", data.tasks, tasks)
    for name, task in data.tasks.items():
        if task.classes != tasks[name].classes:
            raise CourseError(
                f"{arguments.checkpoint} knows the classes {', '.join(tasks[name].classes)} for {name!r}, and this "
                f"data {', '.join(task.classes)}: pass the same --classes as in training"
            )
    scores = training.evaluate(model, data.tasks, _loader(data, arguments), arguments.device)
    _report(scores)
    if arguments.json:
        write_whole(arguments.json, (json.dumps(scores, indent=2) + "\n").encode())


def _recall(arguments: argparse.Namespace) -> None:
    """Fill in how the checkpoint's run read its data, as long as the same data is meant."""
    import yaml

    file = arguments.checkpoint.with_name("config.yaml")
    try:
        config = yaml.safe_load(file.read_text()) if file.is_file() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CourseError(f"{file} is damaged: mend it, or move it away and say --data, --size and --seed") from error
    if arguments.data in (None, config.get("data")):
        for name in ("data", "root", "classes", "size", "seed"):
            if getattr(arguments, name) is None:
                setattr(arguments, name, config.get(name))


def _report(scores: dict[str, dict[str, float]]) -> None:
    width = max(len(metric) for metrics in scores.values() for metric in metrics)
    for task, metrics in scores.items():
        print(task)
        for metric, value in metrics.items():
            print(f"  {metric:{width}}  {value:8.4f}")


def _data(arguments: argparse.Namespace) -> None:
    """Download and check Pascal VOC 2012 (2 GB), or write a VOCdevkit of made scenes."""
    from mtl_course.commands import download
    from mtl_course.datasets.scenes_voc import write_scenes_voc

    root = arguments.root or Path("data" if arguments.what == "voc" else "runs/scenes_voc")
    if arguments.what == "scenes":
        n_train, n_val = arguments.samples, max(arguments.samples // 4, 1)
        print(f"written: {write_scenes_voc(root, n_train, n_val, arguments.size, arguments.seed)}")
    elif (root / download.VOC_FOLDER / "classes.txt").exists():
        raise CourseError(f"{root} holds made scenes, not Pascal VOC: choose another --root")
    else:
        download.download_voc(root)


def _records(arguments: argparse.Namespace) -> int:
    """List the experiments, run one or go on with it, verify its small part, show its result, or tell all claims."""
    from mtl_course.commands import records
    from mtl_course.commands.claims import claims
    from mtl_course.records import run

    if (arguments.name is None) != (arguments.action in ("list", "claims")):
        raise CourseError("records list and claims take no name, and records run, verify and show take one")
    if arguments.action == "list":
        return records.print_list()
    if arguments.action == "claims":
        return claims(arguments.write)
    if arguments.action == "run":
        return run(arguments.name, _split(arguments.arms), arguments.fresh)
    return {"verify": records.verify, "show": records.show}[arguments.action](arguments.name)


def _doctor(arguments: argparse.Namespace) -> int:
    from mtl_course.doctor import run_doctor

    return run_doctor()


if __name__ == "__main__":
    sys.exit(main())
