"""The command line: python -m mtl_course train | evaluate | predict | view | export | data | records | doctor.

Here the words are parsed; `mtl_course.commands` does the work. Exit code 0, or 2 for a mistake of the user, told in one
sentence on stderr; 130 after Ctrl-C, 143 after SIGTERM, 141 if nobody reads what it prints.
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name

from mtl_course import doctor
from mtl_course.commands.options import SIZES, with_files
from mtl_course.errors import CourseError, Interrupted, printable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, `argv` or the words after `python -m mtl_course`, and give the exit code."""
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 (a service may have closed it, and bars need one)
    with suppress(AttributeError):  # a terminal may lack a character of a name; a notebook's stdout lacks none
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        if arguments.command == "doctor":
            return doctor.run_doctor()
        command = resolve_name(f"mtl_course.commands.{arguments.command}:{arguments.command}")
        code = command(arguments) or 0
        print(end="", flush=True)  # which does nothing where stdout is closed
        return code
    except CourseError as error:
        return fail(error)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search("out of memory|allocate memory", str(error)):
            raise
        return fail("the memory is not enough: give a smaller --batch-size or --size")
    except BrokenPipeError:  # `| head` has read enough; nothing is left to be written at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a path that no file system takes, a folder in the place of a file ...
        return fail(f"{error.filename or 'a file'}: {error.strerror or error}: look at this path")
    except KeyboardInterrupt as stop:
        return fail("interrupted; what was written so far is whole and stays", 128 + getattr(stop, "signal", 2))


def fail(text: object, code: int = 2) -> int:
    """Say in one line on stderr what went wrong, of several processes also in which; give the exit code."""
    rank = f"rank {os.environ['RANK']}: " if os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ else ""
    print(f"mtl_course: {rank}{printable(text)}\n", end="", file=sys.stderr)  # at once: lines of processes do not mix
    return code


class _Parser(argparse.ArgumentParser):
    """Mistakes become a CourseError, as all others."""

    def error(self, message: str) -> None:
        raise CourseError(f"{message}; `{self.prog} --help` lists what there is")

    def parse_known_args(self, args: Sequence[str], *more: object) -> tuple:
        if any("\0" in word for word in args):  # from a file of --config
            self.error("no name or path holds a zero byte")
        return super().parse_known_args(args, *more)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command and its name; those of train also from files."""
    parser = _Parser(prog="python -m mtl_course", description="Train and test multi-task segmenters.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, add_options in COMMANDS.items():
        about = add_options.__doc__ or ""
        command = commands.add_parser(name, help=about.split(".")[0], description=about)
        # What only train and view ask for, open_data reads of all.
        command.set_defaults(command=name, samples=0, workers=0)
        add_options(command.add_argument)
    arguments = parser.parse_args(argv)
    return with_files(commands.choices["train"], argv[1:]) if arguments.command == "train" else arguments


def _train_options(add: Callable) -> None:
    """Train on one part of the training data, keep the epoch that is best on the other, and score that on val.

    Scenes make a val of their own. A folder has none: its score is that of the pictures that chose the epoch. Several
    processes: torchrun --nproc-per-node=2 -m mtl_course train ...
    """
    add("--config", type=_path, metavar="FILE", help="YAML with any of these options; what is on the line goes first")
    add("--resume", action="store_true", help="go on with the run in --out, as its config.yaml says")
    _data_options(add)
    add("--samples", type=_positive, default=400, help="scenes: pictures to train on; default 400")
    add("--jitter", type=_number(float, 0, 2), default=0.0, help="strength of other light and colours; default 0")
    add("--workers", type=_number(int, 0, 256), default=0, help="processes that read pictures; default 0")
    add("--model", default="hard", help="single, hard, soft, cross-stitch, attention or mixture; default hard")
    add("--trunk", default="unet", help="the trunk; default unet")
    add("--trunk-option", action="append", default=[], metavar="NAME=VALUE", help="such as frozen=2; may come again")
    add("--pretrained", action=argparse.BooleanOptionalAction, default=False, help="trunk with weights of ImageNet")
    add("--rule", default="equal", help="source of the loss weights, such as cagrad:c=0.4; a wrong name lists all")
    add("--wrt", default="parameters", help="gradients that a rule reads: parameters or representation")
    add("--weights", metavar="W,W,...", help="fixed loss weights, one a task, in the order of --tasks")
    add("--epochs", type=_positive, default=10)
    add("--lr", type=_rate, default=3e-3, help="highest learning rate of the cycle; default 0.003")
    add("--trunk-lr", type=_rate, help="that of the stages that --pretrained fills; default --lr")
    add("--weight-decay", type=_number(float, 0, 1e3), default=1e-4)
    add("--clip", type=_rate, help="largest length of the gradient")
    add("--mean-weights", type=_decay, default=0.0, help="decay of a mean of the weights, kept then")
    add("--monitor", metavar="TASK.METRIC", help="what says which epoch is best; default the first task's")
    add("--patience", type=_positive, help="stop after so many epochs without a better one")
    add("--precision", default="fp32", help="fp32, bf16 or fp16")
    add("--compile", action=argparse.BooleanOptionalAction, default=False, help="let torch.compile make it faster")
    add("--threads", type=_number(int, 1, 1024), help="of torch on the CPU; other numbers give other last digits")
    add("--out", type=_path, default=Path("runs/last"), help="folder of the results; default runs/last")


def _evaluate_options(add: Callable) -> None:
    """Score a checkpoint on the val split of the data (of a folder: its select part).

    What is not said of the data is taken from config.yaml beside the checkpoint.
    """
    add("--checkpoint", **CHECKPOINT)
    add("--json", type=_ends_in(".json"), help="also write the scores to this file")
    _data_options(add)


def _predict_options(add: Callable) -> None:
    """Segment photographs.

    Of each NAME.jpg --out gets, upright and of its size: NAME_mask.png (class ids, with a palette), NAME_overlay.png,
    NAME_TASK.png for every other task (depth: 16 bits, millimetres; normals: x, y, z as red, green, blue from -1 to 1),
    and NAME.json (pixels and share of each class).
    """
    add("--checkpoint", **CHECKPOINT)
    add("photos", nargs="+", type=_path, metavar="PHOTO", help="a file, or a folder of jpg and png")
    add("--out", type=_path, required=True, help="folder of the results")
    _size_and_device(add, "longer side that the model sees; default that of the run, else 224")


def _view_options(add: Callable) -> None:
    """Write a page that shows pictures with their masks, and open it in the browser.

    Of a checkpoint or the folder of a run: pictures of the val split of its data (of a folder: its select part), with
    truth, prediction and probabilities. Of the folder of `predict --out`: the photographs with their masks.
    """
    add("results", type=_path, help="a .safetensors file, the folder of a run, or that of predict --out")
    add("--out", type=_ends_in(".html"), default=Path("runs/view.html"), help="a page; default runs/view.html")
    add("--samples", type=_positive, default=12, help="pictures to show; default 12")
    add("--task", help="the task to show; default the first with classes")
    add("--photos", type=_path, metavar="FOLDER", help="of predict: the photographs; default beside the masks, or here")
    add("--no-open", action="store_true", help="only write the page")
    _data_options(add)


def _export_options(add: Callable) -> None:
    """Write a checkpoint as ONNX, and check its answers against onnxruntime.

    Input: images, float32 (B, 3, H, W) in [0, 1]; outputs: the logits or values of each task, by its name.
    """
    add("--checkpoint", **CHECKPOINT)
    add("--out", type=_ends_in(".onnx"), required=True, metavar="FILE.onnx")
    add("--size", type=_positive, help="height and width in pixels; default that of the run, else 224")


def _make_data_options(add: Callable) -> None:
    """Download Pascal VOC 2012 (2 GB), write a VOCdevkit of made scenes, or check a set of photographs.

    `data check ROOT` looks at every pair of a VOCdevkit, or of images/, masks/ and classes.txt: it decodes both files,
    compares sizes and class ids, prints what must be mended (exit code 2) and a table of the classes. What is good is
    kept in ROOT/.mtl_course_check.json, so that the next check, or train, looks only at what has changed.
    """
    add("what", choices=("voc", "scenes", "check"))
    add("place", nargs="?", type=_path, metavar="ROOT", help="as --root")
    add("--root", type=_path, help="default voc: data, scenes: runs/scenes_voc, check: MTL_COURSE_DATA or data")
    add("--tasks", help="check: as for train; 1-bit masks serve foreground alone")
    add("--classes", help="check: as for train")
    add("--samples", type=_positive, default=200, help="scenes: pictures to make; default 200")
    add("--size", type=_positive, default=128, help="scenes: height and width in pixels; default 128")
    add("--seed", type=_seed, default=0)


def _records_options(add: Callable) -> None:
    """List the experiments, run one or go on with it, verify its small part, show its result, or tell all claims."""
    add("action", choices=("list", "run", "verify", "show", "claims"))
    add("name", nargs="?", help="of the experiment, a file in data/records; for all but list and claims")
    add("--arms", metavar="A,B,...", help="run: only these arms for now; default all")
    add("--fresh", action="store_true", help="run: start anew, and drop the results so far")
    add("--write", action="store_true", help="claims: into README.md instead of the screen")


def _doctor_options(_: Callable) -> None:
    """Check the installation and say how to mend it."""


def _data_options(add: Callable) -> None:
    add("--data", help=f"{', '.join(SIZES)}; default scenes")
    add("--root", help="folder of the data; default for voc: MTL_COURSE_DATA or data")
    add("--tasks", help="names with commas, such as semantic,depth; default all of scenes, else semantic")
    add("--classes", help="class names with commas: score these, ignore the others (voc, folder)")
    add("--batch-size", type=_positive, default=16, help="of all processes together; default 16")
    add("--seed", type=_seed, help="default 0")
    _size_and_device(add, "height and width in pixels; default scenes 64, else 128")


def _size_and_device(add: Callable, size: str) -> None:
    add("--size", type=_number(int, 1, 8192), help=size)
    add("--device", default="auto", help="auto, cpu, cuda or mps")


def _ends_in(suffix: str) -> Callable[[str], Path]:
    def read(text: str) -> Path:  # a slip of the name must not write over a checkpoint or a photograph
        if not text.lower().endswith(suffix):
            raise argparse.ArgumentTypeError(f"a name that ends in {suffix} is expected, and not {text!r}")
        return _path(text)

    return read


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # no shell looks at the ~ of --out=~/run, or of a file of options


def _number(kind: type, low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        with suppress(ValueError):
            if low <= (value := kind(text)) <= high:
                return value
        raise argparse.ArgumentTypeError(f"a number from {low} to {high} is expected, and not {text!r}")

    return read


_positive, _seed = _number(int, 1, 10**7), _number(int, 0, 2**62)
_rate, _decay = _number(float, 1e-9, 1e3), _number(float, 0, 0.999999)
CHECKPOINT = {"type": _path, "required": True, "help": "a .safetensors file that train wrote"}
COMMANDS = {"train": _train_options, "evaluate": _evaluate_options, "predict": _predict_options, "view": _view_options,
            "export": _export_options, "data": _make_data_options, "records": _records_options,
            "doctor": _doctor_options}  # fmt: skip


def _stop(number: int, _: object) -> None:
    raise Interrupted("stopped", number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main())
