"""Two or three processes, each with a part of the batch, find what one process finds on all of it."""

import os
import signal
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import part_run
import pytest
import torch
from torch.utils.data import TensorDataset

from mtl_course import datasets, distributed
from mtl_course.datasets.loading import Parts
from mtl_course.errors import CourseError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one process found."""
    return part_run.everything(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module", params=[2, 3])
def parts(request, tmp_path_factory):
    """What each of several processes found."""
    folder = tmp_path_factory.mktemp("parts")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={request.param}"]
    command = [*launcher, str(HERE / "part_run.py"), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


@pytest.mark.parametrize("wrt", ["parameters", "representation"])
@pytest.mark.parametrize("rule", part_run.RULES)
def test_every_rule_gives_the_gradient_of_one_process_on_the_whole_batch(rule, wrt, one, parts):
    for part in parts:
        pairs = zip(one["rules"][rule, wrt], part["rules"][rule, wrt], strict=True)
        for step, (right, here) in enumerate(pairs):
            for name in ("losses", "alpha", "gradient"):
                difference = (here[name] - right[name]).abs().max() / right[name].abs().max()
                assert difference <= 1e-6, f"step {step}: {name} differs by {difference:.1e} of its largest"


def test_the_gradient_of_a_part_alone_is_another_one():
    """What is compared above can differ: the halves of the batch have other gradients than the whole."""
    whole = part_run.gradients("mgda", "parameters")[0]["gradient"]
    cut = part_run.part
    part_run.part = lambda data: {name: value[::2] for name, value in data.items()}
    try:
        half = part_run.gradients("mgda", "parameters")[0]["gradient"]
    finally:
        part_run.part = cut
    assert (whole - half).abs().max() / whole.abs().max() > 0.05


def test_losses_that_are_no_means_are_those_of_the_whole_batch(one, parts):
    assert set().union(*map(dict.keys, part_run.LOSSES.values())) == one["losses"].keys()
    for part in parts:
        for name, right in one["losses"].items():
            torch.testing.assert_close(part["losses"][name], right, rtol=1e-9, atol=0)


@pytest.mark.parametrize("pictures", ["scores", "one"])
def test_scores_are_those_of_all_pictures(pictures, one, parts):
    for part in parts:
        for task, right in one[pictures].items():
            assert part[pictures][task] == pytest.approx(right, rel=1e-6, nan_ok=True)


def test_fit_takes_the_steps_of_one_process_and_no_process_drifts_away(one, parts):
    """In float32, so to what that can tell."""
    right = one["fit"]
    for part in (every["fit"] for every in parts):
        assert torch.equal(part["weights"], parts[0]["fit"]["weights"])
        torch.testing.assert_close(part["weights"], right["weights"], rtol=1e-3, atol=2e-5)
        assert part["loss"] == pytest.approx(right["loss"], rel=1e-4)
        assert part["abs"] == pytest.approx(right["abs"], rel=1e-3)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("pictures", "batch"), [(10, 4), (9, 4), (12, 4), (3, 4), (13, 4), (7, 7)])
def test_parts_share_no_picture_and_make_the_batches_of_one_process(pictures, batch, whole, monkeypatch):
    alone = [list(range(i, min(i + batch, pictures))) for i in range(0, pictures, batch)]
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr("mtl_course.datasets.loading.rank", lambda rank=rank: rank)
        monkeypatch.setattr("mtl_course.datasets.loading.world", lambda: 2)
        parts.append(list(sampler := Parts(range(pictures), batch, whole)))
        assert len(sampler) == len(parts[-1])
    assert all(part for batches in parts for part in batches)
    joined = [sorted(a + b) for a, b in zip_longest(*parts, fillvalue=[])]
    assert joined == [one for one in alone if not whole or len(one) >= 2]


def test_a_batch_too_small_for_the_processes_is_refused(monkeypatch):
    monkeypatch.setattr("mtl_course.datasets.loading.world", lambda: 3)
    with pytest.raises(CourseError, match="a batch of 2 has no picture for each of 3 processes"):
        Parts(range(9), 2, whole=True)


def test_one_process_reads_what_a_data_loader_reads():
    data = TensorDataset(torch.arange(10))
    orders = [[x.tolist() for (x,) in datasets.loader(data, 4, train=True, seed=seed)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2] and sorted(sum(orders[0], [])) == list(range(10))
    assert [len(x) for x in orders[0]] == [4, 4, 2]
    again = datasets.loader(data, 4, train=True, seed=1)
    assert list(map(str, again)) != list(map(str, again)), "every epoch has an order of its own"
    assert [x.tolist() for (x,) in datasets.loader(data, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_leave_signals_to_the_process_that_reads(number):
    """A terminal or a scheduler sends one to all processes; the reader saves, and needs its workers until then."""
    batches = iter(datasets.loader(TensorDataset(torch.arange(12)), 2, workers=2))
    next(batches), next(batches)  # one of each, so that both have started
    for worker in batches._workers:
        os.kill(worker.pid, number)
    assert len(list(batches)) == 4


def test_alone_nothing_is_exchanged():
    x = torch.ones(2, requires_grad=True)
    assert distributed.total(x) is x and distributed.first(x) is x and distributed.gather(3) == [3]
    assert (distributed.world(), distributed.rank(), distributed.is_main()) == (1, 0, True)
    with distributed.summed([x]):
        x.sum().backward()
    assert x.grad.tolist() == [1, 1]
