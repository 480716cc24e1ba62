"""Batches of a data set, the same for one process and for the parts of several."""

import signal
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, SequentialSampler

from mtl_course.distributed import rank, world
from mtl_course.errors import CourseError

TIMEOUT = 120  # seconds that a worker may take for a batch


class Parts(Sampler[list[int]]):
    """This process's part of every batch: each world-th picture of the global order, from its rank on.

    To learn from, all processes get equally many parts. To score, a last batch may have none for some of them.

    Args:
        order: of all pictures, the same in all processes.
        batch_size: pictures of a batch, of all processes together.
        whole: leave out a last batch that is too small to give every process a picture.
    """

    def __init__(self, order: Sampler[int], batch_size: int, whole: bool):
        if batch_size < world():
            raise CourseError(f"a batch of {batch_size} has no picture for each of {world()} processes: make it larger")
        self.order, self.batch_size, self.whole = order, batch_size, whole

    def __len__(self) -> int:
        full, rest = divmod(len(self.order), self.batch_size)
        return full + (rest >= (world() if self.whole else rank() + 1))

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.order)
        for index in range(len(self)):
            yield order[index * self.batch_size : (index + 1) * self.batch_size][rank() :: world()]


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


def _deaf(_: int) -> None:
    """A worker leaves signals to the process that reads from it, which saves before it stops."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
