"""What is kept of a run: the best and the last model, and the history."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn
from tqdm.auto import tqdm

from mtl_course.distributed import gather, is_main
from mtl_course.errors import CourseError, Damaged, MissingFile
from mtl_course.files import told, write_whole
from mtl_course.models.storage import load, save
from mtl_course.tasks import Tasks

Row = dict[str, float]


class Keeper:
    """Keeps the best and the last weights of a run, in memory and, where a folder is given, on the disk.

    Args:
        model, tasks: what is scored.
        monitor: "task.metric" that says which epoch is best; default the first task's own score.
        folder: for best.safetensors, last.safetensors, history.csv and history.json, or None; of several processes the
            first one writes. Where TensorBoard is installed, the folder gets its events too.
    """

    def __init__(self, model: nn.Module, tasks: Tasks, monitor: str | None, folder: str | Path | None):
        from mtl_course.metrics import LOWER_IS_BETTER  # torchmetrics is slow to import

        self.model, self.tasks = model, tasks
        self.folder = Path(folder) if folder is not None else None
        first = next(iter(tasks.values()))
        usual = f"{first.name}.{first.score}"
        self.monitor = monitor or usual
        name, _, metric = self.monitor.partition(".")
        if name not in tasks or metric not in tasks[name].metric().score_names:
            raise CourseError(f"cannot monitor {self.monitor!r}: name a task and its metric, such as {usual}")
        self.sign = -1 if metric in LOWER_IS_BETTER else 1
        self.history: list[Row] = []
        self.best_score, self.best_epoch, self.best = -math.inf, 0, None

    def keep(self, row: Mapping[str, float]) -> None:
        """Add the row of an epoch; without validation scores the newest epoch is the best."""
        if is_best := self._add(row):
            self.best = weights_of(self.model)
        if self.folder is not None and is_main():
            for name in ("best", "last") if is_best else ("last",):
                save(self.folder / f"{name}.safetensors", self.model, self.tasks)
            write_history(self.folder, self.history)
            write_events(self.folder, self.history)

    def _add(self, row: Mapping[str, float]) -> bool:
        self.history.append(dict(row))
        score = self.sign * row.get(self.monitor, self.sign * math.inf)
        score = -math.inf if math.isnan(score) else score
        if is_best := score >= self.best_score:
            self.best_score, self.best_epoch = score, len(self.history)
        return is_best

    def is_over(self, patience: int | None) -> bool:
        """Whether the best epoch lies `patience` epochs or more back."""
        return patience is not None and len(self.history) - self.best_epoch >= patience

    def recall(self, history: Sequence[Mapping[str, float]]) -> None:
        """Stand where a run of this history stood; the best weights come from the folder.

        Where they are lost, those of now stand for the best, and this is said.
        """
        for row in history:
            self._add(row)
        if history:
            now, best, lost = weights_of(self.model), self.folder / "best.safetensors", ""
            try:
                load(best, self.model)
            except (Damaged, MissingFile) as error:
                lost = str(error).rpartition(": ")[0]
            if lost := max(gather(lost)):
                self.model.load_state_dict(now)
                self.best_score = -math.inf
                self._add(self.history.pop())
                if is_main():
                    save(best, self.model, self.tasks)
                    tqdm.write(f"{lost}: in its place are the newest weights, until an epoch is better than they")
            self.best = weights_of(self.model)
            self.model.load_state_dict(now)

    def restore(self, model: nn.Module) -> None:
        """Put the best weights into the model."""
        if self.best is not None:
            model.load_state_dict(self.best)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def write_history(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """The rows of `fit` as history.csv, a column a name, and history.json."""
    names = list(dict.fromkeys(name for row in history for name in row))
    rows = [[row.get(name, "") for name in names] for row in history]
    csv.writer(text := io.StringIO(), lineterminator="\n").writerows([names, *rows])
    write_whole(folder / "history.csv", text.getvalue().encode())
    write_whole(folder / "history.json", (json.dumps(list(history), indent=1) + "\n").encode())


def write_events(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """The newest row for TensorBoard, where that is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    with told(folder / "tensorboard"), SummaryWriter(folder / "tensorboard") as writer:
        for name, value in history[-1].items():
            writer.add_scalar(name, value, len(history))
