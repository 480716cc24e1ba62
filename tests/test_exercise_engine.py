"""The engine of the checks: what it notices by itself, on a small exercise of its own."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from mtl_course.exercises import cases, check
from mtl_course.exercises.engine import Check


@Check.on(cases.of("N", "N B H"), gradient=True)
def mixed(alpha, parts):
    """You weighted each part.

    - You forgot the weights: multiply part i
      by alpha[i].
    - You took the mean: sum the parts.
    """
    return torch.einsum("n,nbh->bh", alpha, parts), parts.sum(0), (alpha[:, None, None] * parts).mean(0)


def right(alpha, parts):
    return (alpha[:, None, None] * parts).sum(0)


def on_a_device_of_its_own(alpha, parts):
    total = torch.zeros(parts.shape[1:])
    for a, g in zip(alpha, parts):
        total = total + a * g
    return total


def moved_to_the_inputs(alpha, parts):
    total, unused = torch.zeros(parts.shape[1:]).to(parts.device), torch.arange(3)
    assert len(unused) == 3
    for a, g in zip(alpha, parts):
        total = total + a * g * torch.tensor(1.0)
    return total + torch.zeros(parts.shape[1:], device=alpha.device)


def changed(alpha, parts):
    with torch.no_grad():
        parts *= alpha[:, None, None]
    return parts.sum(0)


def wrong_gradient(alpha, parts):
    return (alpha.detach()[:, None, None] * parts).sum(0)


def wrong_for_one_picture(alpha, parts):
    return right(alpha, parts) + (parts.shape[1] == 1)


def stops(alpha, parts):
    return alpha @ parts.reshape(7, -1)


def stops_for_one_picture(alpha, parts):
    if parts.shape[1] == 1:
        raise KeyError("one")
    return parts.sum(0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "function, verdict, words",
    [
        (right, True, "You weighted each part."),
        (moved_to_the_inputs, True, "You weighted each part."),
        (lambda alpha, parts: parts.sum(0), False, "You forgot the weights: multiply part i by alpha[i]."),
        (lambda alpha, parts: right(alpha, parts) / len(alpha), False, "You took the mean"),
        (lambda alpha, parts: -2 * right(alpha, parts), False, "Your answer is -2 times the right one."),
        (lambda alpha, parts: right(alpha, parts).detach(), False, "has no gradient"),
        (lambda alpha, parts: right(alpha, parts)[None], False, "Its shape is ([1, "),
        (lambda alpha, parts: (right(alpha, parts), 1), False, "another answer is expected"),
        (lambda alpha: alpha, False, "TypeError"),
        (changed, False, "changes its arguments"),
        (wrong_gradient, False, "another gradient is expected"),
        (wrong_for_one_picture, False, "Right on ordinary inputs, but not for a batch of one"),
        (on_a_device_of_its_own, False, "not on a GPU"),
        (stops, False, "Your function stopped at `return alpha @ parts.reshape(7, -1)`, for inputs (["),
        (stops_for_one_picture, False, "You forgot the weights"),
        (lambda alpha, parts: right(alpha, parts) if len(parts[0]) > 1 else None, False, "returns nothing for some"),
        (lambda alpha, parts: torch.addmm(parts > 0, 1, 1), False, "Your function stopped"),
        (lambda alpha, parts: None, None, "not solved yet."),
        (lambda alpha, parts: ..., None, "not solved yet."),
        (3, False, "'int' object is not callable"),
    ],
)
def test_a_check_names_what_is_wrong(function, verdict, words, seed):
    found, says = mixed.judge(function, seed)
    assert found is verdict and words in says
    assert mixed.judge(function, seed) == (found, says), "the same seed gives the same sentence"


def test_a_stub_that_raises_is_no_attempt():
    def stub(alpha, parts):
        raise NotImplementedError

    assert mixed.judge(stub) == (None, "not solved yet. (It returns nothing.)")


def test_a_check_prints_one_line_and_leaves_random_numbers_alone(capsys):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    for function in (right, changed, lambda *_: None):
        mixed(function)
    assert torch.equal(torch.rand(3), wanted)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "mixed: right. You weighted each part.",
        "mixed: not yet. Your function changes its arguments: work on a copy.",
        "mixed: not solved yet. (It returns nothing.)",
    ]


def test_an_object_that_equals_everything_is_no_answer():
    class Yes:
        requires_grad, shape = True, ()

        def __eq__(self, other):
            return True

    @Check.on(cases.of("N"))
    def total(x):
        """Sum."""
        return (x.sum(),)

    assert total.judge(lambda x: Yes())[0] is False and mixed.judge(lambda *_: Yes())[0] is False
    assert total.judge(lambda x: x.sum())[0] and total.judge(lambda x: x.sum().item())[0]


@pytest.mark.parametrize("answer, same", [(1, True), (1.0, True), (torch.tensor(1), True), (True, True), (2, False)])
def test_of_one_number_the_kind_does_not_matter(answer, same):
    @Check.on(cases.of("N"))
    def one(x):
        """One."""
        return (torch.tensor(1.0),)

    assert one.judge(lambda x: answer)[0] is same


@pytest.mark.parametrize(
    "dtype, same", [(torch.int64, True), (torch.int32, True), (torch.float32, False), (bool, False)]
)
def test_masks_are_integers(dtype, same):
    @Check.on(cases.of("H W <K"))
    def ids(mask):
        """Ids."""
        return (mask,)

    assert ids.judge(lambda mask: mask.to(dtype) if dtype is not bool else mask.bool())[0] is same


def test_cases_are_what_their_lines_say():
    for seed in range(20):
        drawn = list(
            cases.of("B K H W", "B H W <K!", "T +", "T p", "T ?", "3 W", "+")(torch.Generator().manual_seed(seed))
        )
        assert [case.label for case in drawn] == ["", "", "", cases.ONE, cases.CLASS_0, cases.IGNORED, cases.ORDER]
        for label, (logits, mask, above, share, switch, three, number) in [(c.label, c.inputs) for c in drawn]:
            b, k, h, w = logits.shape
            assert mask.shape == (b, h, w) and three.shape == (3, w) and above.shape == share.shape == switch.shape
            assert above.min() > 0 and 0 <= share.min() and share.max() <= 1 and switch.dtype == torch.bool
            assert mask.dtype == torch.int64 and isinstance(number, float) and number > 0
            ids = mask[mask != 255]
            assert ids.numel() == 0 or 0 <= ids.min() <= ids.max() < k
            assert (b == 1) == (label == cases.ONE)
            assert label != cases.CLASS_0 or not ids.any()
            assert (label == cases.IGNORED) == (ids.numel() == 0)
            assert logits.is_contiguous() == (label != cases.ORDER)


def test_another_seed_draws_other_cases():
    shapes = set()

    def remember(alpha, parts):
        shapes.add(parts.shape)
        return right(alpha, parts)

    for seed in range(3):
        before = len(shapes)
        mixed(remember, seed)
        assert len(shapes) > before
    assert len({size for shape in shapes for size in shape}) > 3


def test_a_caller_without_gradients_gets_them_all_the_same():
    with torch.no_grad():
        assert mixed.judge(right)[0] is True
    assert torch.is_grad_enabled()


def test_a_caller_in_inference_mode_is_judged_as_any_other():
    with torch.inference_mode():
        assert mixed.judge(right)[0] is True
    assert not torch.is_inference_mode_enabled()


def test_a_python_without_docstrings_checks_all_the_same():
    program = "from mtl_course.exercises import check; check.dice_loss(__import__('mtl_course.losses').losses.dice)"
    done = subprocess.run([sys.executable, "-OO", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("dice_loss: right."), done.stderr


@pytest.mark.parametrize(
    "answer",
    [10**30, "text", str, [[]], {"a": 1}, np.array(["a"]), np.datetime64("2026-01-01"), np.ones((2, 2))[:, ::-1],
     torch.ones(2, 2).to_sparse(), (None,), object(), range(3)],
)  # fmt: skip
def test_a_strange_answer_is_refused_without_a_traceback_of_ours(answer):
    for exercise in (mixed, check.mean_iou, check.new_ids, check.paired_interval):
        right, says = exercise.judge(lambda *_: answer)
        assert right is False and says


def test_an_unknown_exercise_names_the_nearest():
    name = next(iter(vars(check)))
    with pytest.raises(AttributeError, match=f"did you mean '{name}'"):
        getattr(check, name + "s")
