"""Exercises of lessons 03 (pictures and masks) and 04 (first segmenter).

The names are short, as in the lessons' formulas: x image, y mask, z scores, n normals, k number of classes, c counts.
Lists that a check goes through are defaults of its arguments.
"""

from torch.nn.functional import interpolate, pad, unfold

from mtl_course import losses, metrics
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
    - Your ignored pixels took the last id of the table, as after `clamp`: they are no class and stay 255.
    """
    known, ids, steps = y < 255, to[y % 255], [y := y.where(y != k, new) for k, new in enumerate(to)]
    return ids.where(known, 255), ids, steps[-1], ids.where(known, to[-1])


# A way: the axis to flip of the mask and of the normals, the sign of the first number of a normal and of the other two.
@engine.Check.on(cases.of("H W <K!", "3 H W"))
def mirrored(y, n, ways=((-1, -1, -1, 1), (-1, -1, 1, 1), (-2, -2, -1, 1), ((), -1, -1, 1), (-1, -1, -1, -1))):
    """You moved the pixels of both targets, and turned the one component that says left or right.

    - Your normals moved, but point where they pointed before: what looked right looks left in a mirror.
    - Your scene stands on its head: a mirror exchanges columns, so flip the last axis, W.
    - Your mask stayed where it was, and only the normals moved: flip the mask too.
    - Your normals have all three signs changed: a mirror changes the first alone, not up and front.
    """
    return [(y.flip(i), n.flip(j) * n.new_tensor([[[s]], [[t]], [[t]]])) for i, j, s, t in ways]


# a: above, left, the pixel itself, right, below, (5, H, W); w: the same where a picture goes on at its other edge.
@engine.Check.on(cases.of("9 W <K!"))
def boundary_mask(y, modes=("replicate", "circular")):
    """You marked both sides of each border, nothing at the picture's edge, and said 255 where a class is unknown.

    - Your pixels beside an ignored one say 0 or 1, but nobody knows whether a border is there: they are 255 too.
    - Your borders have one side: compare each pixel also with the one above it and the one to the left.
    - Your borders have one side: compare each pixel also with the one below it and the one to the right.
    - Your picture goes on at its other edge, as after `roll`: a pixel at the edge has no neighbour outside.
    """
    a, w = (unfold(pad(y[None, None].float(), [1] * 4, how), 3)[0, [1, 3, 4, 5, 7]].view(5, *y.shape) for how in modes)
    return [(v == 255).any(0) * 255 | (n != y).any(0) for n, v in ((a, a), (a, a[2:3]), (a[3:], a), (a[:2], a), (w, w))]


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

    - Your mask has blocks: you enlarged without mixing (`nearest`) or chose the class
      first: enlarge the scores, bilinearly.
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


# Of 8 classes the first and the last do not occur, 1 is answered but never true, 5 and 6 are true but never answered.
@engine.Check.on(_made(lambda c: (pad((9 * c).long(), (1, 3, 2, 1)),), "B 5 4 +"))
def mean_iou(c):
    """You added the tables of all pictures before you divided, and left out classes that do not occur.

    - Your score averages over the pictures: add their tables first, then divide once for each class.
    - Your mean counts a class that does not occur as 0: it has no IoU, so leave it out.
    - Your mean leaves out a class that is answered but never true: its IoU is 0.
    - Your mean leaves out a class that is true but never answered: its IoU is 0.
    - Your union counts the hits twice: they are in the row and in the column, so subtract them once.
    """
    of_all, of_each = metrics.iou(c.sum(0)), metrics.iou(c).nanmean(1)
    return [x.nanmean() for x in (of_all, of_each, of_all.nan_to_num(), of_all[2:], of_all[:-3], of_all / (1 + of_all))]


@engine.Check.on(cases.of("B K H W", "B H W <K!"), gradient=True)
def dice_loss(z, y):
    """You summed each class over all valid pixels, formed its ratio, and averaged over the classes that are there.

    - Your Dice averages over the pictures: sum each class over all pictures first, then form the ratio.
    - Your mean is over all K classes: average over the classes that the mask has.
    - Your sum of p runs over the ignored pixels too: leave them out of p as well as of t.
    """
    right, each, n = losses.dice(z, y), map(losses.dice, z.split(1), y.split(1)), len(y[y < 255].unique())
    ratios = sum(2 * p[y == k].sum() / (p.sum() + (y == k).sum()) for k, p in enumerate(z.softmax(1).unbind(1)))
    return right, sum(each) / len(y), 1 - n / z.shape[1] * (1 - right), 1 - ratios / max(n, 1)
