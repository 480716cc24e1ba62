"""What the options of the commands stand for: data, names with commas, and the files that options are read from."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl_course.errors import CourseError, MissingFile, refuse_unknown

SIZES = {"scenes": 64, "voc": 128, "folder": 128}
STATES = ("state.pt", "state.previous.pt")  # what a run goes on from: the newest, and the one before it
NOT_IN_FILES = ("command", "config", "resume")
# A run that goes on may have these as the machine needs them; all else is as it was.
MAY_CHANGE = {"resume", "config", "out", "device", "workers", "threads", "compile"}


def split_names(text: str | None) -> list[str] | None:
    """The names in "a,b", or None.

    Raises:
        CourseError: if there is none in it.
    """
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    if text is not None and not words:
        raise CourseError(f"names with commas are expected, and not {text!r}")
    return words or None


def open_data(arguments: argparse.Namespace, split: str) -> Any:
    """The data set of one split: "fit" to learn from (augmented), "select" to choose the epoch, "val" to report."""
    from mtl_course import datasets

    kind = arguments.data or "scenes"
    refuse_unknown("data", [kind], SIZES)
    size = arguments.size or SIZES[kind]
    if kind == "scenes":
        if arguments.root or arguments.classes:
            raise CourseError("scenes are made, so --root and --classes say nothing: leave them out, or name --data")
        # Item i depends on (seed, i) alone, so other seeds are other pictures.
        count = {"fit": arguments.samples, "select": max(arguments.samples // 4, 8), "val": 200}[split]
        seed = (arguments.seed or 0) + {"fit": 0, "select": 1_000_003, "val": 2_000_003}[split]
        scenes = datasets.Scenes(count, size=size, seed=seed, tasks=split_names(arguments.tasks))
        if arguments.workers:
            scenes.stack()  # made here, so that the workers share them
        return scenes
    tasks, classes = split_names(arguments.tasks) or ["semantic"], split_names(arguments.classes)
    options = {"tasks": tasks, "classes": classes, "size": size, "augment": split == "fit"}
    if kind == "voc":
        return datasets.VOC(arguments.root, split=split, **options)
    if arguments.root is None:
        raise CourseError("--data folder needs --root: a folder that holds images/ and masks/")
    return datasets.Folder(arguments.root, split="fit" if split == "fit" else "select", **options)


def read_yaml(file: Path) -> dict[str, Any]:
    """The options in a YAML file, by the names of the flags without the leading hyphens.

    Raises:
        OSError: if it cannot be read.
        CourseError: if it is damaged or no mapping.
    """
    import yaml

    try:
        if len(text := file.read_text(encoding="utf-8")) > 2**14:  # yaml takes hours for a million brackets
            raise ValueError("more than 16 kB is too long for a list of options")
        config = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, RecursionError) as error:  # all from yaml
        why = getattr(error, "problem", None) or error
        raise CourseError(f"{file} is damaged ({why}): mend it, or move it away and give flags instead") from error
    # A few aliases of aliases are a text of gigabytes once they are written out.
    if not isinstance(config, dict) or any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise CourseError(f"{file} holds no options: expected are lines such as `epochs: 10`, without aliases (*)")
    return {str(name).replace("_", "-"): value for name, value in config.items()}


def recall(checkpoint: Path) -> dict[str, Any]:
    """The options of the run that wrote a checkpoint, from config.yaml beside it; none if that is not there.

    Raises:
        CourseError: if the file is damaged.
    """
    file = checkpoint.with_name("config.yaml")
    config = read_yaml(file) if file.is_file() else {}
    for name, kind in {"size": int, "seed": int, "data": str, "root": str, "classes": str}.items():
        if not isinstance(value := config.get(name, kind()), kind) or (name == "size" and value > 8192):
            what = {"size": "a whole number up to 8192", "seed": "a whole number"}.get(name, "a text")
            raise CourseError(f"{file}: {name} is {what}, and not {config[name]!r}")
    return config


def with_files(parser: argparse.ArgumentParser, line: Sequence[str]) -> argparse.Namespace:
    """The options of a line, and what it leaves open from the file of --config or, with --resume, from that of the run.

    Raises:
        CourseError: on a wrong option in a file or on the line, or another option than the run to resume had.
    """
    given = parser.parse_args(line)
    words = _words(parser, given.config) if given.config else []
    arguments = parser.parse_args([*words, *line])
    if not arguments.resume:
        return arguments
    if not any((arguments.out / name).is_file() for name in STATES):
        raise MissingFile(f"{arguments.out} holds no {STATES[0]} to go on from: start without --resume")
    saved = _words(parser, arguments.out / "config.yaml")
    before, arguments = parser.parse_args(saved), parser.parse_args([*saved, *words, *line])
    for name, value in vars(arguments).items():
        was = getattr(before, name)
        if name not in MAY_CHANGE and (set(value) != set(was) if isinstance(value, list) else value != was):
            flag = "--" + name.replace("_", "-")
            raise CourseError(f"--resume goes on as the run was: {flag} was {was}, and not {value}; leave {flag} out")
    return arguments


def _words(parser: argparse.ArgumentParser, file: Path) -> list[str]:
    """The options in a YAML file as they would stand on the line, checked."""
    defaults = {name.replace("_", "-"): value for name, value in vars(parser.parse_args([])).items()}
    words = []
    for name, value in read_yaml(file).items():
        refuse_unknown(f"option in {file}", [name], [known for known in defaults if known not in NOT_IN_FILES])
        if isinstance(value, dict):
            value = [f"{key}={one}" for key, one in value.items()]
        if isinstance(value, list) and not isinstance(defaults[name], list):
            value = ",".join(map(str, value))
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            words += [f"--{name}={one}" for one in (value if isinstance(value, list) else [value])]
    try:
        parser.parse_args(words)
    except CourseError as error:
        raise CourseError(f"{file}: {error}") from error
    return words
