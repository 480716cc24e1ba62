"""Tasks: decoding, checks, and colours that the colour-blind can tell apart."""

import itertools

import pytest
import torch

from mtl_course import losses, tasks
from mtl_course.errors import CourseError

# How protanopia, deuteranopia and tritanopia see linear RGB (Machado et al., IEEE TVCG 2009, severity 1).
VISION = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def lab(colors, vision):
    """CIE L*a*b* (N, 3) of hex colours, as seen by one kind of vision."""
    rgb = torch.tensor([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colors], dtype=torch.float64)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ torch.tensor(VISION[vision], dtype=torch.float64).T).clamp(0, 1)
    xyz = seen @ torch.tensor(TO_XYZ, dtype=torch.float64).T / torch.tensor([0.95047, 1, 1.08883], dtype=torch.float64)
    f = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    return torch.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("vision", VISION)
def test_colors_stay_apart(vision):
    """The smallest CIE76 distance is 16, sky blue and green for tritans; about 2.3 can just be noticed."""
    colors = [*tasks.PALETTE, tasks.IGNORE_COLOR]
    distances = torch.cdist(lab(colors, vision), lab(colors, vision))
    closest = min(
        (distances[i, j].item(), colors[i], colors[j]) for i, j in itertools.combinations(range(len(colors)), 2)
    )
    assert closest[0] > 16, closest


def test_palette_has_22_different_colors():
    assert len(set(tasks.PALETTE)) == 22


def test_make_in_order_and_with_the_nearest_right_name():
    made = tasks.make(["depth", "semantic"], ["a", "b", "c"])
    assert list(made) == ["depth", "semantic"] and made["semantic"].channels == 3
    with pytest.raises(CourseError, match="unknown task 'semntic': did you mean 'semantic'"):
        tasks.make(["semntic"])
    with pytest.raises(CourseError, match="did you mean 'depth'"):
        tasks.pick(made, ["dept"])


def test_decode_gives_the_form_of_the_target():
    logits = torch.tensor([[2.0, -1], [0, 3]]).reshape(1, 2, 1, 2)
    assert tasks.semantic(["a", "b"]).decode(logits).tolist() == [[[0, 1]]]
    assert tasks.foreground().decode(logits[:, 1:]).tolist() == [[[0, 1]]]
    assert tasks.boundary().decode(logits[:, :1]).tolist() == [[[1, 0]]]
    directions = tasks.normals().decode(torch.randn(2, 3, 4, 4))
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(2, 4, 4))
    assert torch.equal(tasks.depth().decode(logits[:, :1]), logits[:, :1])


@pytest.mark.parametrize(
    ("task", "target", "sentence"),
    [
        (tasks.foreground(), torch.zeros(1, 4, 4), "int64 .B, H, W., and this is float32"),
        (tasks.foreground(), torch.zeros(1, 1, 4, 4, dtype=torch.long), r"this is int64 \(1, 1, 4, 4\)"),
        (tasks.foreground(), torch.full((1, 4, 4), 2), r"class ids 0 to 1 and 255 = ignore, and the mask holds \[2\]"),
        (tasks.semantic(["a", "b"]), torch.full((1, 4, 4), -1), r"holds \[-1\]"),
        (tasks.depth(), torch.zeros(1, 4, 4), r"needs a target float \(B, 1, H, W\)"),
        (tasks.normals(), torch.zeros(1, 1, 4, 4), r"needs a target float \(B, 3, H, W\)"),
    ],
)
def test_wrong_targets_are_refused_in_one_sentence(task, target, sentence):
    with pytest.raises(CourseError, match=f"^somewhere: task '{task.name}'.*{sentence}"):
        task.check(target, "somewhere")


def test_right_targets_pass():
    tasks.semantic(["a", "b"]).check(torch.tensor([[[0, 1, 255]]]), "here")
    tasks.depth().check(torch.full((1, 1, 2, 2), torch.nan), "here")


@pytest.mark.parametrize(
    ("task", "loss", "score"),
    [
        (tasks.semantic(["a", "b"]), losses.cross_entropy, "miou"),
        (tasks.foreground(), losses.binary_cross_entropy, "miou"),
        (tasks.boundary(), losses.boundary_loss, "f1"),
        (tasks.depth(), losses.l1, "abs_error"),
        (tasks.normals(), losses.cosine, "mean_angle"),
    ],
)
def test_loss_and_score_of_each_task(task, loss, score):
    assert task.loss is loss and task.score == score and score in task.metric().score_names


def test_after_22_classes_the_colors_come_again():
    colors = tasks.semantic([str(k) for k in range(25)]).colors
    assert len(colors) == 25 and colors[22:] == tasks.PALETTE[:3]


@pytest.mark.parametrize("names", [[], ["depth", "depth"]])
def test_tasks_that_are_picked_are_named_once(names):
    with pytest.raises(CourseError, match="tasks must name one or more of"):
        tasks.pick(tasks.make(["depth", "normals"]), names)
