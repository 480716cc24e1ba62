"""A run step by step: epochs, steps, what is written down of them, and the state to go on from."""

from collections.abc import Callable, Iterable, Iterator
from time import monotonic, perf_counter

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from mtl_course import distributed
from mtl_course.balancing import RuleNotDefined
from mtl_course.datasets.loading import pictures
from mtl_course.errors import CourseError, Interrupted
from mtl_course.tasks import Batch
from mtl_course.training import state
from mtl_course.training.descent import Descent
from mtl_course.training.evaluation import checked, evaluate, refuse_empty
from mtl_course.training.keeper import Keeper, Row
from mtl_course.training.objective import Objective

SAVE_EVERY = 300.0  # seconds between two states within an epoch


class Trainer:
    """What `fit` drives; see there for the arguments.

    Where a run stands is `keeper.history` and, within an epoch, `at`: the batches that are done, what was seen in them
    (loss/TASK and alpha/TASK), the steps skipped, the learning rate of the first of them, and where the random draws
    stood before it.

    Args:
        run: what this run is; a state of another one does not fit.
    """

    def __init__(self, model: torch.nn.Module, objective: Objective, descent: Descent, keeper: Keeper,
                 loader: DataLoader, val_loader: DataLoader | None, place: torch.device,
                 augment: Callable[[Batch], Batch] | None, run: dict):  # fmt: skip
        self.model, self.objective, self.descent, self.keeper = model, objective, descent, keeper
        self.loader, self.val_loader, self.place, self.augment, self.run = loader, val_loader, place, augment, run
        self.tasks, self.signals, self.saved_at = objective.tasks, [], monotonic()
        self.now: dict | None = None  # random states to go on with after a resume
        # All that moves, the parameters too; between two steps, so `.grad` is not in it.
        parts = {"model": model, "rule": objective.rule, "scaler": objective.scaler}
        parts |= {name: getattr(descent, name) for name in ("optimizer", "schedule", "mean")}
        self.moving = {name: part for name, part in parts.items() if hasattr(part, "state_dict")}
        distributed.same(model)
        self.begin()

    def begin(self) -> None:
        """Stand before the first batch of an epoch."""
        seen = {f"{what}/{name}": [] for what in ("loss", "alpha") for name in self.tasks}
        self.scoring: dict | None = None  # random states before the model is scored, which draws too
        # Skipped steps, and why; undefined are those of them where the rule was not defined.
        self.at = {"batches": 0, "random": None, "seen": seen, "skipped": [], "undefined": 0}
        self.at["lr"] = self.descent.schedule.get_last_lr()[0]

    def train(self, epochs: int, patience: int | None, silent: bool) -> None:
        """The epochs that are left; after them, and after an interrupt too, the model holds the best weights."""
        total, done = (n * len(self.loader) for n in (epochs, len(self.keeper.history)))
        bar = tqdm(total=total, initial=done + self.at["batches"], disable=silent, unit="batch", mininterval=0.5)
        try:
            with bar, state.signals_noted() as self.signals:
                while len(self.keeper.history) < epochs and not self.keeper.is_over(patience):
                    self.epoch(bar)
                self.look()  # a signal while the last epoch was scored
        finally:
            self.keeper.restore(self.model)

    def epoch(self, bar: tqdm) -> None:
        """What is left of an epoch: its batches, the scores, and what is kept of it."""
        began, waited, number = perf_counter(), 0.0, len(self.keeper.history) + 1
        self.model.train()
        statistics = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        batches, asked = self.open(), perf_counter()
        for batch in batches:
            waited += perf_counter() - asked
            self.at["batches"] += 1
            try:
                seen = self.step(batch, f"epoch {number}, batch {self.at['batches']}")
            except CourseError as error:
                self.model.load_state_dict(statistics, strict=False)  # NaN went through the batch norms
                raise CourseError(f"{error}{pictures(self.loader, self.at['batches'])}") from error
            for name, value in seen.items():
                self.at["seen"][name].append(value)
            bar.update()
            self.look()
            asked = perf_counter()
        row = {"epoch": number, "lr": self.at["lr"]} | self.means(bar) | {"waiting": waited / (perf_counter() - began)}
        if self.val_loader is not None:
            self.scoring = state.random_states(self.loader)
            distributed.same(self.keeper.model, parameters=False)
            scores = evaluate(self.keeper.model, self.tasks, self.watched(self.val_loader), self.place, progress=False)
            row |= {f"{task}.{metric}": value for task, found in scores.items() for metric, value in found.items()}
        self.objective.after_epoch()
        row["seconds"] = perf_counter() - began
        self.keeper.keep(row)
        self.begin()
        self.save()
        bar.set_postfix_str(f"{self.keeper.monitor} {row.get(self.keeper.monitor, torch.nan):.3f}", refresh=False)

    def open(self) -> Iterator[Batch]:
        """The batches of this epoch from where it stands; those that were done are read once more and dropped."""
        self.at["random"] = self.at["random"] or self.now or state.random_states(self.loader)
        state.set_random_states(self.at["random"], self.loader)
        batches = iter(self.loader)
        for _ in range(self.at["batches"]):
            next(batches)
        if self.now and self.at["batches"]:
            state.set_random_states(self.now | {"loader": None}, self.loader)
        self.now = None
        return batches

    def watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; after each the signals are looked at. Processes that score have not always equally many."""
        for batch in batches:
            yield batch
            if distributed.world() == 1:
                self.look()

    def means(self, bar: tqdm) -> Row:
        """The means of each task's loss and α over the batches that had it."""
        seen, skipped = self.at["seen"], self.at["skipped"]
        refuse_empty(self.tasks, {name for name in self.tasks if seen[f"loss/{name}"]})
        if self.at["undefined"] == self.at["batches"]:
            raise CourseError(f"the rule is defined at no step ({skipped[0]}): choose another rule")
        if skipped:
            bar.write(f"{len(skipped)} of {self.at['batches']} steps were skipped, the first at {skipped[0]}")
        means = {name: float(torch.stack(values).mean()) if values else torch.nan for name, values in seen.items()}
        return means | {"skipped": len(skipped)}

    def step(self, batch: Batch, where: str) -> Row:
        """One step down the gradient of L, unless the rule is not defined there; the losses before it, and α."""
        batch = self.ready(batch, where)
        terms = self.objective.losses(self.model, batch)
        self.objective.refuse_not_finite(terms, where)
        row = {f"loss/{name}": loss.detach() for name, loss in terms.items()}
        self.descent.optimizer.zero_grad()
        try:
            alpha = dict(zip(self.tasks, self.objective.backward(self.model, terms)))
        except RuleNotDefined as error:
            self.at["skipped"].append(f"{where}: {error}")
            self.at["undefined"] += 1
            return row
        if not self.descent.step(self.objective.scaler):
            self.objective.refuse_exploded(self.model, batch, row, where)
            self.at["skipped"].append(f"{where}: the gradients overflowed float16")
            return row
        self.objective.after_step(self.model, batch, terms, where)
        return row | {f"alpha/{name}": alpha[name] for name in terms}

    def ready(self, batch: Batch, where: str) -> Batch:
        """A batch on the device, augmented."""
        batch = checked(batch, self.tasks, where)
        batch = {name: value.to(self.place, non_blocking=True) for name, value in batch.items()}
        if self.place.type == "cuda":
            batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        return self.augment(batch) if self.augment else batch

    def save(self) -> None:
        """Write the state, if the run has a folder."""
        self.saved_at = monotonic()
        if self.keeper.folder is None:
            return
        seen = {name: torch.stack(values).cpu() if values else None for name, values in self.at["seen"].items()}
        now = self.scoring or state.random_states(self.loader)
        stands = distributed.gather({"at": self.at | {"seen": seen}, "now": now})
        if distributed.is_main():
            moving = {name: part.state_dict() for name, part in self.moving.items()}
            content = {"run": self.run, "stands": stands, "history": self.keeper.history, "descent": moving,
                       "threads": torch.get_num_threads()}  # fmt: skip
            state.write_state(self.keeper.folder / state.STATE, content, self.keeper.folder / state.BEFORE)

    def resume(self) -> None:
        """Stand where the newest state in the folder that is whole stood."""
        found, why = state.newest_state(self.keeper.folder, self.run)
        if why and distributed.is_main():
            tqdm.write(why)
            (self.keeper.folder / state.STATE).unlink(missing_ok=True)  # only a good one is kept beside the next
        try:
            for name, part in self.moving.items():
                part.load_state_dict(found["descent"][name])
            self.keeper.recall(found["history"])
            self.at, self.now = found["stands"][distributed.rank()].values()
            for name, values in self.at["seen"].items():  # the losses are where the model is, α is on the CPU
                place = self.place if name.startswith("loss/") else "cpu"
                self.at["seen"][name] = [] if values is None else list(values.to(place).unbind())
            if found["threads"] != torch.get_num_threads():
                tqdm.write(f"this run had {found['threads']} threads and now has {torch.get_num_threads()}: sums are "
                           "rounded in another order, so the weights will differ in their last digits")  # fmt: skip
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CourseError(f"{self.keeper.folder}: the state there is no state of this run: start anew") from error

    def look(self) -> None:
        """Save the state if it is time to, or stop here, after a signal to any of the processes.

        Raises:
            Interrupted: after a signal.
        """
        signal, due = max(self.signals, default=0), monotonic() - self.saved_at > SAVE_EVERY
        signal, due = map(max, zip(*distributed.gather((signal, due))))
        if signal or due:
            self.save()
        if signal:
            where = f"epoch {len(self.keeper.history) + 1}, batch {self.at['batches']}"
            kept = (f"the state is in {self.keeper.folder}: go on with resume" if self.keeper.folder else
                    "without a checkpoint nothing was saved")  # fmt: skip
            raise Interrupted(f"stopped after {where}; {kept}", signal)
