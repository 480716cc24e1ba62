"""What holds for every loss: against plain loops, with unknown pixels, at extreme predictions, in any order."""

import inspect
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from drawn import generator, held, seeds
from hypothesis import given
from hypothesis import strategies as st

from mtl_course import losses, tasks

WEIGHTS = (0.5, 2.0, 1.0, 3.0)


def weighted(logits, masks):
    return losses.cross_entropy(logits, masks, torch.tensor(WEIGHTS[: logits.shape[1]], dtype=logits.dtype))


# Each loss with its kind of target and the plain loop that says what it is.
BY_KIND = {
    "classes": {
        "cross_entropy": losses.cross_entropy, "weighted": weighted, "focal": losses.focal,
        "focal, gamma 0.5": partial(losses.focal, gamma=0.5), "dice": losses.dice,
    },
    "binary": {
        "binary_cross_entropy": losses.binary_cross_entropy, "binary_dice": losses.binary_dice,
        "binary_dice, smooth 0.1": partial(losses.binary_dice, smooth=0.1), "boundary_loss": losses.boundary_loss,
    },
    "dense": {"l1": losses.l1},
    "direction": {"cosine": losses.cosine},
}  # fmt: skip
ALL = {name: (kind, loss) for kind, group in BY_KIND.items() for name, loss in group.items()}
every_loss = pytest.mark.parametrize("name", ALL)


def drawn_case(name, seed, hidden, size=4, dtype=torch.float64):
    """A prediction, a target with a share `hidden` of unknown pixels, and where these are."""
    kind, g = ALL[name][0], generator(seed)
    batch, height, width = (int(torch.randint(1, size + 1, (1,), generator=g)) for _ in range(3))
    several = int(torch.randint(2, 5, (1,), generator=g))
    channels = {"classes": several, "dense": several - 1, "direction": 3}.get(kind, 1)
    prediction = 3 * torch.randn(batch, channels, height, width, generator=g, dtype=dtype)
    where = torch.rand(batch, height, width, generator=g) < hidden
    if kind in ("classes", "binary"):
        target = torch.randint(0, max(channels, 2), where.shape, generator=g)
        return prediction, target.masked_fill(where, losses.IGNORE_INDEX), where
    target = torch.randn(prediction.shape, generator=g, dtype=dtype)
    target = F.normalize(target, dim=1) if kind == "direction" else target
    return prediction, target.masked_fill(where[:, None], math.nan), where


def test_no_loss_is_forgotten():
    """Every function of mtl_course.losses that maps (prediction, target) to a scalar is here, and every task's loss."""
    known = {getattr(loss, "func", loss) for _, loss in ALL.values()}
    public = [value for name, value in inspect.getmembers(losses, inspect.isfunction) if name[0] != "_"]
    ours = {f for f in public if f.__module__ == losses.__name__ and list(inspect.signature(f).parameters)[1:2]
            in (["masks"], ["target"])}  # fmt: skip
    assert ours and ours <= known
    made = tasks.make(["semantic", "foreground", "boundary", "depth", "normals"], ["a", "b"])
    assert {task.loss for task in made.values()} <= known


@every_loss
@held(30)
@given(seeds, st.floats(0, 1))
def test_unknown_pixels_change_nothing_and_get_no_gradient(name, seed, hidden):
    loss = ALL[name][1]
    prediction, target, where = drawn_case(name, seed, hidden)
    value = loss(prediction.requires_grad_(), target)
    value.backward()
    assert value.ndim == 0 and value.isfinite() and prediction.grad.isfinite().all()
    assert (prediction.grad.movedim(1, -1)[where] == 0).all()
    for other in (torch.randn_like(prediction), torch.full_like(prediction, 1e30)):
        shaken = torch.where(where[:, None], other, prediction.detach())
        assert torch.equal(loss(shaken, target), value.detach()), "bit for bit"
    if where.all():
        assert value == 0 and (prediction.grad == 0).all()


@every_loss
@held(20)
@given(seeds, st.floats(0, 1), st.sampled_from([0.0, 1e-45, 1e-30, 1e-8, 1e4, 1e18, 1e30]), st.booleans())
def test_finite_for_any_finite_prediction_of_float32(name, seed, hidden, scale, alike):
    """Up to 1e30, of which a sum over a hundred million pixels is still a float32."""
    prediction, target, _ = drawn_case(name, seed, hidden, dtype=torch.float32)
    prediction = (torch.ones_like(prediction) if alike else prediction / 3).clamp(-1, 1) * scale
    value = ALL[name][1](prediction.requires_grad_(), target)
    value.backward()
    assert value.isfinite() and prediction.grad.isfinite().all() and value >= 0


@every_loss
@held(15)
@given(seeds, st.floats(0, 1))
def test_the_order_of_pixels_and_pictures_does_not_matter(name, seed, hidden):
    prediction, target, _ = drawn_case(name, seed, hidden)
    order = torch.randperm(math.prod(target.shape[-2:]) * len(target), generator=generator(seed))

    def shuffled(x):  # (B, C, H, W) as one row of pixels, in another order
        return x.movedim(1, -1).flatten(0, 2)[order].T[None, :, None]

    mixed = shuffled(target) if target.is_floating_point() else shuffled(target[:, None])[:, 0]
    torch.testing.assert_close(ALL[name][1](shuffled(prediction), mixed), ALL[name][1](prediction, target))


@pytest.mark.parametrize("name", [name for name in BY_KIND["classes"] if name != "weighted"])
@held(15)
@given(seeds, st.floats(0, 0.9))
def test_the_numbering_of_the_classes_does_not_matter(name, seed, hidden):
    prediction, target, where = drawn_case(name, seed, hidden)
    order = torch.randperm(prediction.shape[1], generator=generator(seed))
    renamed = order.argsort()[target.masked_fill(where, 0)].masked_fill(where, losses.IGNORE_INDEX)
    torch.testing.assert_close(ALL[name][1](prediction[:, order], renamed), ALL[name][1](prediction, target))


# Plain loops: each pixel by hand, in Python's floats.


def pixels(prediction, target):
    """(channels of the prediction, target) of each valid pixel."""
    for b in range(prediction.shape[0]):
        for h in range(prediction.shape[2]):
            for w in range(prediction.shape[3]):
                said = prediction[b, :, h, w].tolist()
                true = target[b, :, h, w].tolist() if target.ndim == 4 else int(target[b, h, w])
                if true != 255 and not (isinstance(true, list) and any(map(math.isnan, true))):
                    yield said, true


def softmax(logits):
    powers = [math.exp(x - max(logits)) for x in logits]
    return [p / sum(powers) for p in powers]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def cross_entropy_of_one(logit, truth):
    return -math.log(sigmoid(logit if truth else -logit))


def loop_focal(pairs, gamma):
    return mean(-((1 - softmax(said)[true]) ** gamma) * math.log(softmax(said)[true]) for said, true in pairs)


def loop_weighted(pairs):
    total = sum(WEIGHTS[true] for _, true in pairs)
    return sum(-WEIGHTS[true] * math.log(softmax(said)[true]) for said, true in pairs) / total if pairs else 0.0


def loop_dice(pairs):
    found = []
    for k in sorted({true for _, true in pairs}):
        both = sum(softmax(said)[k] for said, true in pairs if true == k)
        found.append(1 - 2 * both / sum(softmax(said)[k] + (true == k) for said, true in pairs))
    return mean(found)


def loop_binary_dice(pairs, smooth):
    both = sum(sigmoid(said[0]) * true for said, true in pairs)
    return 1 - (2 * both + smooth) / (sum(sigmoid(said[0]) + true for said, true in pairs) + smooth)


def loop_boundary(pairs):
    kinds = [[cross_entropy_of_one(said[0], true) for said, true in pairs if true == k] for k in (0, 1)]
    if not all(kinds):
        return mean(kinds[0] + kinds[1])
    # Half of the weight to each kind: 2 · share of the other kind for every pixel, whose mean over all pixels counts.
    shares = [len(kind) / len(pairs) for kind in kinds]
    return 2 * (shares[1] * sum(kinds[0]) + shares[0] * sum(kinds[1])) / len(pairs)


def loop_cosine(pairs):
    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b)) / (math.hypot(*a) * math.hypot(*b))

    return mean(1 - cosine(said, true) for said, true in pairs)


LOOPS = {
    "cross_entropy": lambda pairs: mean(-math.log(softmax(said)[true]) for said, true in pairs),
    "weighted": loop_weighted,
    "focal": lambda pairs: loop_focal(pairs, 2),
    "focal, gamma 0.5": lambda pairs: loop_focal(pairs, 0.5),
    "dice": loop_dice,
    "binary_cross_entropy": lambda pairs: mean(cross_entropy_of_one(said[0], true) for said, true in pairs),
    "binary_dice": lambda pairs: loop_binary_dice(pairs, 1),
    "binary_dice, smooth 0.1": lambda pairs: loop_binary_dice(pairs, 0.1),
    "boundary_loss": loop_boundary,
    "l1": lambda pairs: mean(mean(abs(s - t) for s, t in zip(said, true)) for said, true in pairs),
    "cosine": loop_cosine,
}


@every_loss
@held(25)
@given(seeds, st.floats(0, 1))
def test_it_is_what_a_plain_loop_over_the_valid_pixels_gives(name, seed, hidden):
    prediction, target, _ = drawn_case(name, seed, hidden)
    expected = LOOPS[name](list(pixels(prediction, target)))
    assert ALL[name][1](prediction, target).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)
