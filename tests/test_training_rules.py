"""fit under every rule: what it records, what it skips, what it adds, and the command line."""

import copy
import math
import subprocess
import sys
import warnings

import pytest
import torch
from torch.utils.data import DataLoader

from mtl_course import balancing, models, tasks, training
from mtl_course.__main__ import main
from mtl_course.balancing import Famo, Uncertainty, equal, mgda, multitask_backward, nash
from mtl_course.errors import CourseError
from mtl_course.losses import l2, losses
from mtl_course.training.objective import Objective, batch_statistics_kept

TASKS = tasks.make(["foreground", "depth"])
RULES = sorted(balancing.GRADIENT_RULES | balancing.LOSS_RULES | balancing.FURTHER_RULES)
ALPHAS = ("alpha/foreground", "alpha/depth")


def samples(n=8, size=16):
    g = torch.Generator().manual_seed(0)
    masks = [torch.randint(0, 2, (size, size), generator=g) for _ in range(n)]
    return [
        {"image": torch.rand(3, size, size, generator=g), "foreground": m, "depth": 1 + m[None].float()} for m in masks
    ]


def loader(data=None):
    return DataLoader(samples() if data is None else data, 4)


def small(kind="hard"):
    torch.manual_seed(0)
    return models.build(kind, "unet", TASKS, channels=(4, 8))


def quiet_fit(model, data=None, **options):
    return training.fit(model, TASKS, loader(data), device="cpu", progress=False, **options)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("wrt", ["parameters", "representation"])
@pytest.mark.parametrize("rule", [*RULES, "cagrad:c=0.4", "imtl-g"])
def test_every_rule_by_name(rule, wrt):
    model = small()
    before = weights(model)
    history = quiet_fit(model, epochs=2, rule=rule, wrt=wrt)
    for row in history:
        assert row["skipped"] == 0 and all(math.isfinite(row[name]) for name in ALPHAS)
    assert any(not torch.equal(before[name], value) for name, value in weights(model).items())
    assert all(value.isfinite().all() for value in weights(model).values())


def test_fit_equals_a_bare_loop_with_the_rule():
    ours, bare = small(), small()
    history = quiet_fit(ours, epochs=1, rule="nash", lr=1e-2)
    optimizer = torch.optim.AdamW(bare.parameters(), lr=1e-2, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=2)
    alphas = []
    bare.train()
    for batch in loader():
        optimizer.zero_grad()
        alphas.append(multitask_backward(losses(bare(batch["image"]), batch, TASKS), bare, nash))
        optimizer.step()
        schedule.step()
    for name, value in weights(bare).items():
        assert torch.equal(value, weights(ours)[name]), name
    assert [history[0][name] for name in ALPHAS] == pytest.approx(torch.stack(alphas).mean(0).tolist())


def test_steps_where_the_rule_is_undefined_are_skipped_counted_and_move_nothing():
    seen, states = [], []

    def every_other(gramian):
        states.append({name: p.detach().clone() for name, p in model.named_parameters()})
        seen.append(len(seen))
        if len(seen) % 2 == 0:
            raise ValueError("not defined where the count is even")
        return mgda(gramian)

    model = small()
    history = quiet_fit(model, samples(16), epochs=1, rule=every_other)
    assert history[0]["skipped"] == 2 and math.isfinite(history[0]["alpha/depth"])
    moved = [any(not torch.equal(a[n], b[n]) for n in a) for a, b in zip(states, states[1:])]
    assert moved == [True, False, True]


def test_a_rule_that_is_defined_nowhere_is_an_error():
    def never(gramian):
        raise ValueError("not defined")

    model = small()
    before = weights(model)
    with pytest.raises(CourseError, match="defined at no step .epoch 1, batch 1: not defined"):
        quiet_fit(model, epochs=3, rule=never)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name


def test_a_zero_loss_is_skipped_by_rules_with_logarithms():
    data = samples()
    tasks_with_zero = {"foreground": TASKS["foreground"], "depth": TASKS["depth"]}
    model = small()
    with torch.no_grad():
        for p in model.heads["depth"][-1].parameters():
            p.zero_()
    for sample in data[:4]:
        sample["depth"] = torch.zeros_like(sample["depth"])
    rows = training.fit(model, tasks_with_zero, loader(data), device="cpu", progress=False, epochs=1, rule="famo")
    assert rows[0]["skipped"] == 1


def test_losses_that_famo_cannot_take_after_the_step_end_in_a_sentence():
    with pytest.raises(CourseError):
        quiet_fit(small(), epochs=1, rule="famo", lr=1e30)


def test_famos_second_forward_leaves_the_batch_statistics():
    for rule, forwards in (("famo", 1), ("equal", 1)):
        model = small()
        quiet_fit(model, epochs=1, rule=rule)
        counts = {int(value) for name, value in model.state_dict().items() if "num_batches" in name}
        assert counts == {2 * forwards}
    model, batch = small().train(), next(iter(loader()))
    objective, before = Objective(TASKS, "famo"), weights(model)
    terms = objective.losses(model, batch)
    multitask_backward(terms, model, objective.rule)
    after = weights(model)
    objective.after_step(model, batch, terms, "here")
    for name, value in weights(model).items():
        assert torch.equal(value, after[name]), name
    assert any(not torch.equal(before[name], after[name]) for name in before)  # the first forward did move them
    assert isinstance(objective.rule, Famo) and all(m.training for m in model.modules())


def test_batch_statistics_are_kept_in_the_block_alone():
    model = small().train()
    with batch_statistics_kept(model), pytest.raises(ZeroDivisionError):
        before = weights(model)
        model(samples()[0]["image"][None])
        assert all(torch.equal(a, b) for a, b in zip(before.values(), weights(model).values()))
        raise ZeroDivisionError
    model(samples()[0]["image"][None])
    assert any(not torch.equal(before[name], value) for name, value in weights(model).items())


def test_uncertainty_is_learned_by_the_optimizer_without_decay():
    rule = Uncertainty(2)
    with torch.no_grad():
        rule.s.fill_(50.0)  # Adam moves it by at most lr a step, and any decay by lr · decay · 50
    quiet_fit(small(), epochs=2, rule=rule, lr=1e-2, weight_decay=100.0)
    assert ((rule.s < 50) & (rule.s >= 50 - 4 * 1e-2)).all()


@pytest.mark.parametrize("rule", [mgda, equal, "uncertainty"])
def test_omega_is_added_after_the_rule(rule):
    model, batch = small().double().train(), next(iter(loader()))
    batch = {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}
    objective = Objective(TASKS, rule, omega=lambda m: l2(m.parameters(), 0.3))
    plain = copy.deepcopy(model)
    bare = Objective(TASKS, rule)
    alphas = []
    for o, m in ((objective, model), (bare, plain)):
        terms = losses(m(batch["image"]), batch, TASKS)
        alphas.append(o.backward(m, terms))
    assert torch.equal(*alphas)
    for (name, p), q in zip(model.named_parameters(), plain.parameters()):
        torch.testing.assert_close(p.grad, q.grad + 0.3 * p, rtol=1e-12, atol=1e-14, msg=name)


def test_soft_sharing_brings_its_own_omega():
    model = small("soft:strength=2")
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    plain, batch = copy.deepcopy(model), next(iter(loader()))
    Objective(TASKS).backward(model, losses(model(batch["image"]), batch, TASKS))
    (sum(losses(plain(batch["image"]), batch, TASKS).values()) + plain.omega()).backward()
    for p, q in zip(model.parameters(), plain.parameters()):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("kind", ["soft", "single"])
def test_who_shares_nothing_is_refused_before_the_first_step(kind):
    model = small(kind)
    for rule in ("pcgrad", "grad_norm"):
        with pytest.raises(CourseError, match="nothing to balance"):
            quiet_fit(model, epochs=1, rule=rule)
    quiet_fit(model, epochs=1, rule="uncertainty")


@pytest.mark.parametrize("options, message", [
    ({"rule": "pcgard"}, "did you mean 'pcgrad'"),
    ({"rule": "cagrad:d=1"}, "unknown option of cagrad 'd'"),
    ({"wrt": "representations"}, "did you mean 'representation'"),
    ({"rule": "pcgrad", "weights": {"depth": 0.5}}, "not both"),
    ({"rule": "smooth_tchebycheff:mu=-1"}, "mu > 0"),
])  # fmt: skip
def test_mistakes_are_told(options, message):
    with pytest.raises(CourseError, match=message):
        quiet_fit(small(), epochs=1, **options)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("rule", ["nash", "equal", "uncertainty", "grad_norm"])
def test_mixed_precision_on_the_cpu_without_a_warning(rule, precision):
    model = small()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = quiet_fit(model, epochs=2, rule=rule, precision=precision)
    assert math.isfinite(history[-1]["loss/depth"]) and math.isfinite(history[-1]["alpha/depth"])
    assert all(value.isfinite().all() for value in weights(model).values())


QUICK = ["--epochs", "1", "--samples", "8", "--size", "16", "--batch-size", "4", "--device", "cpu"]
QUICK += ["--tasks", "semantic,depth"]


def test_the_command_line_takes_a_rule(tmp_path):
    options = ["--rule", "cagrad:c=0.4", "--wrt", "representation", "--out", str(tmp_path)]
    assert main(["train", *QUICK, *options]) == 0
    header, row = (tmp_path / "history.csv").read_text().splitlines()
    assert "alpha/semantic" in header and "skipped" in header and row
    assert "rule: cagrad:c=0.4" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize("options, message", [
    (["--rule", "pcgard"], "did you mean 'pcgrad'"),
    (["--rule", "cagrad:c=x"], "c is a float, and not 'x'"),
    (["--rule", "cagrad:b=1"], "unknown option of cagrad 'b'"),
    (["--wrt", "parameter"], "did you mean 'parameters'"),
    (["--rule", "nash", "--weights", "1,0.2"], "not both"),
    (["--rule", "nash", "--model", "soft"], "nothing to balance"),
])  # fmt: skip
def test_mistakes_on_the_command_line(options, message, tmp_path, capsys):
    assert main(["train", *QUICK, *options, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_the_module_itself_says_it_in_one_sentence():
    done = subprocess.run(
        [sys.executable, "-m", "mtl_course", "train", "--rule", "pcgard"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "did you mean 'pcgrad'" in done.stderr and "Traceback" not in done.stderr
