"""fit does what its formula says, refuses what it cannot use, and keeps the best."""

import csv
import math

import pytest
import torch
from torch.utils.data import DataLoader

from mtl_course import models, tasks, training
from mtl_course.errors import CourseError
from mtl_course.losses import l2, losses
from mtl_course.training.keeper import Keeper
from mtl_course.training.objective import Objective

TASKS = tasks.make(["foreground", "depth"])


def samples(n=8, size=16, seed=0):
    """Bright blocks are foreground and near."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 2, (n, size // 4, size // 4), generator=generator)
    mask = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)
    images = mask[:, None] * 0.5 + 0.4 * torch.rand(n, 3, size, size, generator=generator)
    return [{"image": i, "foreground": m, "depth": 0.8 - 0.5 * m[None]} for i, m in zip(images, mask)]


def loader(data=None, **options):
    return DataLoader(samples() if data is None else data, 4, **options)


def small(kind="hard"):
    torch.manual_seed(0)
    return models.build(kind, "unet", TASKS, channels=(4, 8))


def quiet_fit(model, *loaders, tasks=TASKS, **options):
    return training.fit(model, tasks, *loaders, device="cpu", progress=False, **options)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_fit_learns_and_history_has_a_row_an_epoch():
    model = small()
    history = quiet_fit(model, loader(), loader(samples(seed=1)), epochs=25, lr=5e-2)
    assert [row["epoch"] for row in history] == list(range(1, 26))
    assert history[-1]["loss/foreground"] < history[0]["loss/foreground"] / 2
    assert history[-1]["foreground.miou"] > 0.9 and history[-1]["depth.abs_error"] < 0.15
    assert {"lr", "seconds", "loss/depth", "foreground.iou_foreground", "depth.delta1"} <= history[0].keys()


def test_fit_equals_a_bare_loop():
    ours, bare = small(), small()
    weights, omega = {"depth": 0.3}, lambda model: l2(model.parameters(), 1e-3)
    quiet_fit(ours, loader(), epochs=2, weights=weights, omega=omega, lr=1e-2)
    optimizer = torch.optim.AdamW(bare.parameters(), lr=1e-2, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=4)
    bare.train()
    for _ in range(2):
        for batch in loader():
            terms = losses(bare(batch["image"]), batch, TASKS)
            optimizer.zero_grad()
            (terms["foreground"] + 0.3 * terms["depth"] + omega(bare)).backward()
            optimizer.step()
            schedule.step()
    assert same(ours, bare)


def test_same_seed_same_weights():
    one, two = small(), small()
    for model in (one, two):
        quiet_fit(model, loader(shuffle=True, generator=torch.Generator().manual_seed(5)), epochs=2)
    assert same(one, two)


@pytest.mark.parametrize(
    ("monitor", "best"),
    [("depth.abs_error", 1), ("depth.rel_error", 1), ("normals.mean_angle", 1), ("depth.delta1", 3)],
)
def test_the_best_epoch_is_kept_and_a_nan_score_is_not_best(monitor, best, tmp_path):
    model = small()
    keeper = Keeper(model, tasks.make(["depth", "normals"]), monitor, tmp_path)
    for score in (math.nan, 2.0, 3.0, 1.0, 2.0):
        with torch.no_grad():
            next(iter(model.parameters())).fill_(score)
        keeper.keep({monitor: score})
    for name, expected in (("best", best), ("last", 2)):
        kept, _ = training.load(tmp_path / f"{name}.safetensors", small())
        assert (next(iter(kept.parameters())) == expected).all()
    keeper.restore(model)
    assert (next(iter(model.parameters())) == best).all()


def test_a_run_of_nan_scores_alone_still_leaves_a_checkpoint(tmp_path):
    Keeper(small(), TASKS, "depth.abs_error", tmp_path).keep({"depth.abs_error": math.nan})
    assert (tmp_path / "best.safetensors").exists()


def test_without_validation_the_last_epoch_stays():
    model = small()
    keeper = Keeper(model, TASKS, None, None)
    for value in (1.0, 2.0):
        with torch.no_grad():
            next(iter(model.parameters())).fill_(value)
        keeper.keep({"epoch": value})
    keeper.restore(model)
    assert (next(iter(model.parameters())) == 2.0).all()


def test_partial_labels_a_task_absent_from_a_batch_is_left_out():
    data = samples()
    for sample in data[:4]:
        sample["depth"] = torch.full_like(sample["depth"], math.nan)
    history = quiet_fit(small(), loader(data), epochs=1)
    assert math.isfinite(history[0]["loss/depth"])
    for sample in data:
        sample["depth"] = torch.full_like(sample["depth"], math.nan)
    with pytest.raises(CourseError, match="no picture of this data has a valid pixel for the task 'depth'"):
        quiet_fit(small(), loader(data), epochs=1)
    with pytest.raises(CourseError, match="no picture of this data has a valid pixel for the task 'depth'"):
        training.evaluate(small(), TASKS, loader(data), "cpu", progress=False)


def test_the_mean_loss_of_a_task_is_over_the_batches_that_had_it():
    data = samples()
    for sample in data[:4]:
        sample["depth"] = torch.full_like(sample["depth"], math.nan)
    batch = list(loader(data))[1]
    expected = losses(small().train()(batch["image"]), batch, TASKS)["depth"].item()
    history = quiet_fit(small(), loader(data), epochs=1, lr=1e-9)  # the weights stay
    assert history[0]["loss/depth"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("omega", [None, lambda model: l2(model.parameters(), 1.0)])
def test_a_batch_where_every_task_is_unknown_changes_no_weight(omega):
    model, data = small(), samples()
    for sample in data:
        sample["depth"] = torch.full_like(sample["depth"], math.nan)
        sample["foreground"] = torch.full_like(sample["foreground"], 255)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(CourseError, match="no picture of this data has a valid pixel"):
        quiet_fit(model, loader(data), omega=omega)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    objective = Objective(TASKS, omega=omega)
    terms = objective.losses(model, next(iter(loader(data))))
    assert not terms and objective.backward(model, terms).tolist() == [0, 0]
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_fit_trains_in_training_mode():
    model = small().eval()
    before = model.trunk.down[0][0][1].running_mean.clone()
    quiet_fit(model, loader(), epochs=1)
    assert not torch.equal(before, model.trunk.down[0][0][1].running_mean)


def test_bf16_convolves_in_bfloat16_and_takes_losses_in_float32():
    model, seen = small(), set()
    model.trunk.down[0][0][0].register_forward_hook(lambda module, args, output: seen.add(output.dtype))
    quiet_fit(model, loader(), epochs=1, precision="bf16")
    assert seen == {torch.bfloat16}
    terms = Objective(TASKS, precision="bf16").losses(model, next(iter(loader())))
    assert {loss.dtype for loss in terms.values()} == {torch.float32}


def test_evaluate_leaves_a_model_in_evaluation_mode():
    model = small().eval()
    training.evaluate(model, TASKS, loader(), "cpu", progress=False)
    assert not model.training


def test_a_target_for_fewer_pictures_is_refused():
    batch = next(iter(loader()))
    batch["foreground"] = batch["foreground"][:1]
    with pytest.raises(CourseError, match="same number of pictures"):
        training.evaluate(small(), TASKS, [batch], "cpu", progress=False)


def test_evaluate_uses_evaluation_mode_and_gives_the_mode_back():
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = training.evaluate(model, TASKS, loader(), "cpu", progress=False)
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert set(scores) == set(TASKS) and 0 <= scores["foreground"]["miou"] <= 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rule": "eqal"}, "unknown rule 'eqal': did you mean 'equal'"),
        ({"weights": {"dept": 1}}, "unknown task 'dept': did you mean 'depth'"),
        ({"precision": "fp16x"}, "unknown precision"),
        ({"monitor": "depth.miou"}, "cannot monitor 'depth.miou'"),
        ({"lr": 1e30}, "epoch 1, batch 2: the loss is not finite"),
        ({"lr": math.nan}, "a finite lr > 0"),
        ({"epochs": 0}, "epochs and patience >= 1 and a batch of data, and got 0 epochs"),
        ({"patience": 0}, "epochs and patience >= 1 .* patience 0"),
        ({"weights": {"foreground": 0, "depth": 0}}, "not all 0"),
        ({"weights": {"depth": -1}}, "finite, >= 0"),
    ],
)
def test_mistakes_are_told_in_a_sentence(options, sentence):
    with pytest.raises(CourseError, match=sentence):
        quiet_fit(small(), loader(), **options)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"foreground": torch.full((16, 16), 7)}, r"epoch 1, batch 1: task 'foreground' knows the class ids 0 to 1"),
        ({"foreground": torch.zeros(16, 16)}, "needs a mask of class ids"),
        ({"foreground": torch.zeros(8, 8, dtype=torch.long)}, "same number of pictures, height and width"),
        ({"depth": torch.zeros(2, 16, 16)}, r"needs a target float \(B, 1, H, W\)"),
    ],
)
def test_wrong_targets_stop_before_the_loss(change, sentence):
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CourseError, match=sentence):
        quiet_fit(model, loader([sample | change for sample in samples()]))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_loss_that_is_not_finite_leaves_the_weights_alone():
    model, data = small(), samples()
    data[0]["image"] = torch.full_like(data[0]["image"], math.nan)
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(CourseError, match=r"epoch 1, batch 1: the loss is not finite \(foreground nan"):
        quiet_fit(model, loader(data))
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_an_interrupt_leaves_the_best_weights(tmp_path):
    class Interrupting(list):
        reads = 0

        def __getitem__(self, index):
            Interrupting.reads += 1
            if Interrupting.reads > 20:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    model = small()
    with pytest.raises(KeyboardInterrupt):
        quiet_fit(model, loader(Interrupting(samples())), loader(samples(seed=1)), epochs=9, checkpoint=tmp_path)
    kept, _ = training.load(tmp_path / "best.safetensors")
    assert same(model, kept)
    assert len(list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))) == 2


def test_no_batch_and_no_such_device():
    with pytest.raises(CourseError, match="a batch of data, and got .* epochs and 0 batches"):
        quiet_fit(small(), DataLoader([]))
    with pytest.raises(CourseError, match="device 'cud' is not available here"):
        training.choose_device("cud")


@pytest.mark.parametrize("half", [False, True])
def test_checkpoints_give_the_same_model_again(tmp_path, half):
    model = small().eval()
    path = training.save(tmp_path / "model.safetensors", model, TASKS, half=half)
    again, its_tasks = training.load(path)
    images = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(again(images)["depth"], model(images)["depth"], rtol=0, atol=2e-2 if half else 0)
    assert its_tasks == TASKS and not again.training


def test_broken_or_foreign_checkpoints_are_told_in_a_sentence(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(CourseError, match="there is no checkpoint"):
        training.load(path)
    training.save(path, small(), TASKS)
    whole = path.read_bytes()
    for damaged in (b"", whole[:50], whole[:-10]):
        path.write_bytes(damaged)
        with pytest.raises(CourseError, match=f"{path} is damaged"):
            training.load(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CourseError, match="not written by mtl_course"):
        training.load(path)
    path.write_bytes(whole)
    with pytest.raises(CourseError, match="weights of another model"):
        training.load(path, models.build("hard", "unet", TASKS, channels=(4, 6)))


@pytest.mark.parametrize("image", [torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(16, 16)])
def test_images_of_another_kind_are_refused(image):
    with pytest.raises(CourseError, match=r"expected is a dict with 'image', float32 \(B, 3, H, W\) in \[0, 1\], not"):
        quiet_fit(small(), loader([sample | {"image": image} for sample in samples()]))
    with pytest.raises(CourseError, match="expected is a dict with 'image'.* not list"):
        training.evaluate(small(), TASKS, [[1, 2]], "cpu", progress=False)


def test_evaluate_refuses_predictions_that_do_not_fit_or_are_not_finite():
    for wrong, sentence in (
        ({"foreground": torch.zeros(4, 1, 16, 16)}, "unknown prediction 'depth'"),
        ({"foreground": torch.zeros(4, 1, 8, 8), "depth": torch.zeros(4, 1, 16, 16)}, "needs a prediction"),
        ({"foreground": torch.zeros(4, 1, 16, 16), "depth": torch.full((4, 1, 16, 16), math.nan)}, "is not finite"),
    ):
        model = torch.nn.Identity()
        model.forward = lambda _, answer=wrong: answer
        with pytest.raises(CourseError, match=sentence):
            training.evaluate(model, TASKS, loader(), "cpu", progress=False)


def test_weights_that_diverged_are_not_kept(tmp_path):
    data = DataLoader(samples(4), 4)  # one step an epoch: the loss before it was still finite
    with pytest.raises(CourseError, match="not finite: train it with lower lr"):
        quiet_fit(small(), data, loader(), epochs=3, lr=1e30, checkpoint=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_error_in_a_worker_stays_one_sentence():
    data = Refusing()
    with pytest.raises(CourseError, match=r"^x\.png: the file is empty: fetch it again$"):
        list(DataLoader(data, 1, num_workers=1))


class Refusing(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise CourseError("x.png: the file is empty: fetch it again")


def test_a_checkpoint_keeps_what_a_task_is(tmp_path):
    own = {"parts": tasks.semantic(["a", "b"], "parts"), "weave": tasks.restore("weave", "binary", ["plain", "weave"])}
    model = models.build("hard", "unet", own, channels=(4, 8))
    _, again = training.load(training.save(tmp_path / "model.safetensors", model, own))
    assert again == own


def test_a_module_that_stands_in_two_places_is_saved(tmp_path):
    shared = torch.nn.Linear(2, 2)
    model = torch.nn.ModuleDict({"one": shared, "two": shared})
    path = training.save(tmp_path / "model.safetensors", model, TASKS, half=True)
    fresh = torch.nn.Linear(2, 2)
    training.load(path, torch.nn.ModuleDict({"one": fresh, "two": fresh}))
    torch.testing.assert_close(fresh.weight, shared.weight, rtol=1e-3, atol=1e-3)


def test_a_checkpoint_of_another_version_is_told(tmp_path):
    from safetensors.torch import save_file

    for about in ("{}", "[1]", '{"tasks": [{"name": "x", "kind": "y", "classes": []}], "recipe": null}'):
        save_file({"x": torch.zeros(1)}, tmp_path / "m.safetensors", {"mtl_course": about})
        with pytest.raises(CourseError, match="cannot be built again"):
            training.load(tmp_path / "m.safetensors")


def test_compiled_are_the_parts_so_that_the_features_between_them_stay():
    from mtl_course.training.device import placed

    model = models.build("hard", "unet", TASKS, channels=(4, 6))
    placed(model, torch.device("cpu"), compile=True)
    parts = [model.trunk, *model.heads.values()]
    assert all(part._compiled_call_impl is not None for part in parts) and model._compiled_call_impl is None
