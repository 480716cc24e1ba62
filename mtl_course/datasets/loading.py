"""Batches of a data set, the same for one process and for the parts of several."""

import atexit
import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from traceback import format_exc, walk_tb

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, SequentialSampler
from torch.utils.data._utils.signal_handling import _remove_worker_pids
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from mtl_course.distributed import rank, world
from mtl_course.errors import CourseError

TIMEOUT = 120  # seconds that a worker may take for a batch
# What torch says of a worker that died or hangs, and where there is not enough shared memory.
_SIGNS = ("DataLoader worker (pid", "DataLoader timed out", "shared memory", "/torch_", "ancdata", "open files")


class Parts(Sampler[list[int]]):
    """This process's part of every batch: each world-th picture of the global order, from its rank on.

    To learn from, all processes get equally many parts. To score, a last batch may have none for some of them.

    Args:
        order: of all pictures, the same in all processes.
        batch_size: pictures of a batch, of all processes together.
        whole: leave out a last batch that is too small to give every process a picture.

    Attributes:
        drawn: the global order of the epoch that was begun last.
    """

    def __init__(self, order: Sampler[int], batch_size: int, whole: bool):
        if batch_size < world():
            raise CourseError(f"a batch of {batch_size} has no picture for each of {world()} processes: make it larger")
        self.order, self.batch_size, self.whole, self.drawn = order, batch_size, whole, []

    def __len__(self) -> int:
        full, rest = divmod(len(self.order), self.batch_size)
        return full + (rest >= (world() if self.whole else rank() + 1))

    def __iter__(self) -> Iterator[list[int]]:
        self.drawn = list(self.order)
        for number in range(1, len(self) + 1):
            yield self.batch(number)[rank() :: world()]

    def batch(self, number: int) -> list[int]:
        """The pictures of a batch of this epoch, from 1, of all processes."""
        return self.drawn[(number - 1) * self.batch_size : number * self.batch_size]


def loader(data: Dataset, batch_size: int, *, train: bool = False, seed: int = 0, workers: int = 0) -> DataLoader:
    """Batches in an order that a seed draws anew for each epoch, or, to score, in the data's own order.

    Started by torchrun, after `distributed.start`, each process gets its part of every batch; no picture comes twice.

    Args:
        data: with a length.
        batch_size: pictures of a batch, of all processes together.
        train: draw the order.
        seed: of the order.
        workers: processes that read ahead; 0 reads when a batch is asked for.

    To learn from, a last batch that has no picture for each process is left out.

    Raises:
        CourseError: if `batch_size` is smaller than the number of processes.
    """
    generator = torch.Generator().manual_seed(seed)
    order = RandomSampler(data, generator=generator) if train else SequentialSampler(data)
    options = {"num_workers": workers, "generator": generator, "timeout": TIMEOUT if workers else 0}
    options |= {"pin_memory": torch.cuda.is_available(), "worker_init_fn": _deaf}
    return DataLoader(data, batch_sampler=Parts(order, batch_size, whole=train), **options)


def pictures(batches: DataLoader, number: int) -> str:
    """What the pictures of a batch of the epoch are called, for an error; nothing of a loader that is not ours.

    Args:
        batches: from `loader`.
        number: of the batch, from 1.
    """
    sampler, names = getattr(batches, "batch_sampler", None), getattr(batches, "dataset", None)
    names = getattr(names, "names", range(10**9))  # a data set without names: their numbers
    drawn = sampler.batch(number) if isinstance(sampler, Parts) else []
    return f"; its pictures: {', '.join(str(names[i]) for i in drawn)}" if drawn else ""


@contextmanager
def workers_told() -> Iterator[None]:
    """In this block the fault of a loader's worker process becomes a CourseError. An error ends what waited for them.

    Raises:
        CourseError: if a worker died, takes too long, there is not enough shared memory, or the samples differ.
    """
    try:
        yield
    except BaseException as error:
        for _ in range(3):  # torch's handler of SIGCHLD raises at any line, once for each death
            with suppress(RuntimeError):
                _leave_workers(error)
        said = str(error).strip().split("\n")[-1]
        if isinstance(error, RuntimeError | OSError) and any(sign in said for sign in _SIGNS):
            mend = "try num_workers=0 (--workers 0), or give the machine more shared memory"
            raise CourseError(f"the worker processes that read pictures failed ({said.strip()}): {mend}") from error
        if isinstance(error, RuntimeError | TypeError | LookupError) and "default_collate" in format_exc():
            raise CourseError(f"these samples make no batch ({said}): give all the same keys and sizes") from error
        raise


def _leave_workers(error: BaseException) -> None:
    """End the workers of loaders that an error came through, and those of a loader that has lost one.

    Torch would do so when it forgets the loader. But it waits for locks, which a worker may have held when it was
    killed; it waits for one that hangs, which is deaf; and at any later signal it would tell of the dead once more.
    """
    through = {id(frame.f_locals.get("self")) for frame, _ in walk_tb(error.__traceback__)}
    left = [one for one in gc.get_objects() if type(one) is _MultiProcessingDataLoaderIter]
    for one in [one for one in left if getattr(one, "_worker_pids_set", False)]:
        if id(one) in through or any(worker.exitcode is not None for worker in one._workers):
            with suppress(ValueError):  # the last time this was cut short after it
                _remove_worker_pids(id(one))
            for worker in one._workers:
                worker.kill()
                worker.join()
            for queue in one._index_queues:
                queue.cancel_join_thread()
            one._shutdown, one._worker_pids_set = True, False


@atexit.register
def _end_workers() -> None:
    """At the end of the program: those that an error has kept alive are deaf, and would be waited for without end."""
    signal.signal(getattr(signal, "SIGCHLD", signal.SIGTERM), signal.SIG_DFL)  # else torch tells of the death of each
    for worker in [child for child in torch.multiprocessing.active_children() if child.daemon]:
        worker.kill()


def _deaf(_: int) -> None:
    """A worker leaves signals to the process that reads from it, which saves before it stops."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
