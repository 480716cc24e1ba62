"""Exercises of lessons 03 (pictures and masks) and 04 (first segmenter).

The names are short, as in the lessons' formulas: x image, y mask, z scores, n normals, k number of classes, c counts.
"""

from torch.nn.functional import interpolate, pad

from mtl_course import datasets, losses, metrics
from mtl_course.exercises import cases, engine


def _made(make, *specs):
    """Cases whose inputs are made of what is drawn."""
    return lambda generator: (engine.Case(make(*drawn), label) for drawn, label in cases.of(*specs)(generator))


# No two new ids are the same, so that a loop that changes one id after the other meets its own new ids.
@engine.Check.on(_made(lambda y, numbers: (y, numbers.argsort()), "B H W <K!", "K"))
def new_ids(y, to):
    """You looked every id up in the mask as it was, so that no pixel was changed twice, and let 255 stay.

    - Your ignored pixels became a class: put 255 back where the mask has 255.
    - Your loop changes some pixels twice, since it meets its own new ids again: ask the old mask, write into a new one.
    """
    return (ids := to[y % 255]).where(y < 255, 255), ids, [y := y.where(y != k, new) for k, new in enumerate(to)][-1]


@engine.Check.on(cases.of("H W <K!", "3 H W"))
def mirrored(y, n):
    """You moved the pixels of both targets, and turned the one component that says left or right.

    - Your normals moved, but point where they pointed before: what looked right looks left in a mirror.
    - Your scene stands on its head: a mirror exchanges columns, so flip the last axis, W.
    """
    return [(y.flip(d), n.flip(d) * n.new_tensor([[[s]], [[1]], [[1]]])) for s, d in ((-1, -1), (1, -1), (-1, -2))]


@engine.Check.on(cases.of("9 W <K!"))
def boundary_mask(y):
    """You marked both sides of each border, nothing at the picture's edge, and said 255 where a class is unknown.

    - Your pixels beside an ignored one say 0 or 1, but nobody knows whether a border is there: they are 255 too.
    - Your borders have one side: compare each pixel also with the one above it and the one to the left.
    """
    right, raw = (y.new_tensor(datasets.targets.boundary(y.numpy(), void)) for void in ((y == 255).numpy(), None))
    one_side = y.diff(dim=0, append=y[-1:]) | y.diff(dim=1, append=y[:, -1:])  # 0 where both differences are 0
    return right, raw.where(y < 255, 255), right.where((one_side != 0) | (right > 1), 0)


@engine.Check.on(_made(lambda y, answer, names: (y, answer, len(names)), "B H W <K!", "B H W <K", "K"))
def confusion_matrix(y, answer, k):
    """You counted each valid pixel once, in the row of its true class and the column of its answer.

    - Your rows and columns are exchanged: rows are the truth, columns the answer.
    - Your table holds 0 and 1 only: `table[truth, answer] += 1` adds 1 to a cell, however many pixels name it.
    """
    return (table := (k * y + answer)[y < 255].bincount(minlength=k * k).view(k, k)), table.T, table.clamp(max=1)


@engine.Check.on(_made(lambda z, x: (z, x.repeat(1, 1, 4, 3)), "B K H W", "B 3 M N"))
def full_size_mask(z, x):
    """You made the scores large first and chose the class then, so that outlines run between the places of the grid.

    - Your mask has blocks: you chose the class of each place before you enlarged; enlarge the scores, bilinearly.
    - Your grid is stretched to the corners (`align_corners=True`): its places are areas, so leave that False.
    """
    return [interpolate(z, x.shape[-2:], None, *o).argmax(1) for o in (("bilinear",), ("nearest",), ("bilinear", True))]


@engine.Check.on(_made(lambda z, y, big: (z * (1 + 300 * big), y), "B K H W", "B H W <K!", "B 1 H W ?"), gradient=True)
def stable_cross_entropy(z, y):
    """You stayed in logarithms, so that no number overflows, and divided by the count of the valid pixels.

    - Your softmax rounds small probabilities to 0, and log 0 is infinite: use the logarithm of the sum, not of p.
    - Your mean is over all pixels, the ignored ones too: divide by the count of the valid pixels.
    """
    return [losses.cross_entropy(x, y) * w for x, w in ((z, 1), (z.softmax(1).log(), 1), (z, (y < 255).float().mean()))]


# The first and the last class are nowhere.
@engine.Check.on(_made(lambda c: (pad((9 * c).long(), (1, 1, 1, 1)),), "B K K +"))
def mean_iou(c):
    """You added the tables of all pictures before you divided, and left out classes that are nowhere.

    - Your score averages over the pictures: add their tables first, then divide once for each class.
    - Your mean counts a class that is nowhere as 0: it has no IoU, so leave it out.
    """
    return (iou := metrics.iou(c.sum(0))).nanmean(), metrics.iou(c).nanmean(1).nanmean(), iou.nan_to_num().mean()


@engine.Check.on(cases.of("B K H W", "B H W <K!"), gradient=True)
def dice_loss(z, y):
    """You summed each class over all valid pixels, formed its ratio, and averaged over the classes that are there.

    - Your Dice averages over the pictures: sum each class over all pictures first, then form the ratio.
    - Your mean is over all K classes: average over the classes that the mask has.
    """
    share = len(y[y < 255].unique()) / z.shape[1]  # of the K classes; the loss of the others would be 1 - 0
    return (right := losses.dice(z, y)), sum(map(losses.dice, z.split(1), y.split(1))) / len(y), 1 - share * (1 - right)
