"""Exercises of lessons 01 (one formula) and 02 (one objective)."""

import torch

from mtl_course.exercises import cases, engine


@engine.Check.on(cases.of("N", "N B 1 H W"), gradient=True)
def weighted_sum(alpha, g):
    """You gave each part its own α and summed over the parts; α can be learned.

    - Your f is divided by the number of parts: the formula has a sum over i, not a mean.
    - Your α is scaled so that it sums to 1: use it as it is, its sum may be any number.
    - Your values are right, but no gradient reaches α: keep it a tensor, without tolist(), item() or detach().
    """
    return [torch.einsum("n,n...->...", a, g) for a in (alpha, alpha / len(alpha), alpha / alpha.sum(), alpha.detach())]


@engine.Check.on(cases.of("T 4", "B 3 H W"), gradient=True)
def task_heads(alpha, z):
    """You gave each task its own row of α, over the channels of one trunk and an offset: that is a 1×1 convolution.

    - Your f has no offset: add the last column of α, one number for each task.
    - Your axes are (tasks, pictures, H, W): a batch begins with its pictures, so move the axis of the tasks to place 1.
    """
    return (f := torch.conv2d(z, alpha[:, :-1, None, None], alpha[:, -1])), f - alpha[:, -1:, None], f.transpose(0, 1)


@engine.Check.on(cases.of("B N H W", "N B 1 H W"), gradient=True)
def gated_sum(z, g):
    """You let the parts share the weight 1 at each pixel, and weighted each part at its own pixel.

    - Your softmax runs over the pictures: α must sum to 1 over the parts, which are axis 1 of the scores.
    - Your weights are the raw scores: take their softmax over the parts first.
    - Your weights come from a sigmoid, part by part, and need not sum to 1: use a softmax over the parts.
    - Your axes were exchanged by `reshape`, so a pixel has the weight of another picture or part: use `movedim`.
    """
    t = z.movedim(1, 0)[:, :, None]  # (N, B, 1, H, W), as g
    return [(a * g).sum(0) for a in (t.softmax(0), t.softmax(1), t, t.sigmoid(), z.softmax(1).reshape_as(g))]


@engine.Check.on(cases.of("N 40", "40", "40 +"))
def fitted_alpha(g, y, m):
    """You weighted both sides of the normal equations, so that a pixel of weight 2 counts as two pixels.

    - Your fit ignores the weights: every pixel counts the same in it.
    - Your weights are on the side of the target alone: each pixel's m stands in A and in b.
    - Your weights are on the side of the parts alone: each pixel's m stands in b, too.
    - Your weights are squared: m belongs to the squared error, so scale the rows by the root of m, or A and b by m.
    """
    return [torch.linalg.solve(g * a @ g.mT, g * b @ y) for a, b in ((m, m), (1, 1), (1, m), (m, 1), (m * m, m * m))]


@engine.Check.on(cases.of("T D", "T T p"), gradient=True)
def pair_tie(theta, lam):
    """You tied each pair of tasks once, by its own strength, and the gradient pulls both ends.

    - Your sum has s < t and s > t, so each pair counts twice: keep what lies above the diagonal.
    - Your tie takes the distance of two tasks: Ω has the squared distance.
    """
    return [(s / 2 * torch.cdist(theta, theta) ** k).sum() for s, k in ((lam.triu(1), 2), (lam, 2), (lam.triu(1), 1))]


def _with_gaps(generator):
    for k, label in ((1, ""), (2, ""), (-1, "a task without a label"), (-9, "no label at all")):
        (p, y), _ = next(cases.of("T 6", "T 6")(generator))
        yield engine.Case((p, y.round().where(torch.ones_like(y).tril(k).flip(1) > 0, torch.nan)), label)


@engine.Check.on(_with_gaps, gradient=True)
def partly_labelled(p, y):
    """You took the mean of each task over its own labels, and no NaN reached the gradient.

    - Your loss is right where each task has a label, but its gradient has NaN: replace the NaN before you subtract.
    - Your sums are divided by n: divide those of a task by the number of its labels.
    - Your mean runs over the labels of all tasks together, so a task with many labels decides: take one mean a task.
    - Your missing labels count as labels of 0: a pixel without a label adds nothing, and is not in n_t.
    """
    # y == y: not NaN; all cases have n = 6 pixels a task; z: NaN taken as 0
    n, e, z = (y == y).sum(1), (p - y.where(y == y, p.detach())).square().sum(1), (p - y.nan_to_num()).square()
    return [x.sum() / 2 for x in (e / n.clamp(1), (p - y).square().nanmean(1), e / 6, e / n.sum().clamp(1), z / 6)]


@engine.Check.on(cases.of("D", "T", "N D", "N T", "T +", "+"))
def one_step(w, v, X, y, alpha, eta):
    """You gave the trunk the weighted sum of the tasks' gradients, each head its own, and took both at the old point.

    - Your heads use the trunk after its step: compute all gradients first, then update.
    - Your heads mix two points, the old residuals and the X w of the new trunk: take both before you change w.
    - Your heads have no α: the weight of a loss scales the gradient of its head too.
    """
    # G (T, d): in row t, n times the gradient of L_t, before the factor v_t of the trunk or w of the head
    u = w - (a := eta / len(X) * alpha) * v @ (G := (X @ w.outer(v) - y).T @ X)
    return [(u, v - a * head) for head in (G @ w, (X @ u.outer(v) - y).T @ X @ u, G @ u, G @ w / alpha)]


@engine.Check.on(cases.of("T D", "+"))
def pull_together(theta, s):
    """You left the mean of the tasks where it is, and divided the distances to it by 1 + s, which no s can break.

    - Your factor 1 - s is that of a gradient step from the old point: at the minimum, the new distance counts.
    - Your θ shrinks to 0, as under a ridge: the tie pulls to the mean of the tasks.
    """
    return [c + (theta - c) * k for c, k in ((theta.mean(0), 1 / (1 + s)), (theta.mean(0), 1 - s), (0, 1 / (1 + s)))]
