"""Answers to the exercises of lessons 01 and 02."""

import torch
import torch.nn.functional as F

from answers import right, wrong
from mtl_course import formula, losses


@right("weighted_sum")
def by_a_loop(alpha, g):
    total = torch.zeros_like(g[0])
    for i in range(len(alpha)):
        total = total + alpha[i] * g[i]
    return total


@right("weighted_sum")
def by_the_package(alpha, g):
    return formula.mix(alpha, g)


@right("weighted_sum")
def by_a_matrix_product(alpha, g):
    return (alpha @ g.reshape(len(alpha), -1)).reshape(g.shape[1:])


@wrong("weighted_sum", "has a sum over i, not a mean")
def mean_of_the_parts(alpha, g):
    return (alpha[:, None, None, None, None] * g).mean(0)


@wrong("weighted_sum", "use it as it is")
def made_a_weighted_mean(alpha, g):
    total = sum(alpha[i] * g[i] for i in range(len(g)))
    return total / alpha.sum()


@wrong("weighted_sum", "no gradient reaches α")
def numbers_in_place_of_alpha(alpha, g):
    return sum(a * part for a, part in zip(alpha.tolist(), g))


@wrong("weighted_sum", "Mismatched elements")
def softmax_of_alpha(alpha, g):
    return torch.tensordot(alpha.softmax(0), g, 1)


@wrong("weighted_sum", "Its shape is")
def not_summed(alpha, g):
    return alpha[:, None, None, None, None] * g


@wrong("weighted_sum", "in-place operation")
def written_into_g(alpha, g):
    total = g[0]
    total *= alpha[0]
    for a, part in zip(alpha[1:], g[1:]):
        total += a * part
    return total


@right("task_heads")
def with_a_part_of_ones(alpha, z):
    ones = torch.ones_like(z[:, :1])
    return torch.einsum("tc,bchw->bthw", alpha, torch.cat([z, ones], 1))


@right("task_heads")
def one_task_after_the_other(alpha, z):
    heads = []
    for row in alpha:
        f = row[-1] + sum(row[c] * z[:, c] for c in range(z.shape[1]))  # (B, H, W)
        heads.append(f)
    return torch.stack(heads, 1)


@right("task_heads")
def a_linear_layer_at_each_pixel(alpha, z):
    return F.linear(z.movedim(1, -1), alpha[:, :-1], alpha[:, -1]).movedim(-1, 1)


@wrong("task_heads", "has no offset")
def no_offset(alpha, z):
    return torch.einsum("tc,bchw->bthw", alpha[:, :-1], z)


@wrong("task_heads", "a batch begins with its pictures")
def tasks_before_pictures(alpha, z):
    return torch.stack([torch.einsum("c,bchw->bhw", row[:-1], z) + row[-1] for row in alpha])


@wrong("task_heads", "Mismatched elements")
def offset_in_the_first_column(alpha, z):
    return torch.einsum("tc,bchw->bthw", alpha[:, 1:], z) + alpha[:, 0, None, None]


@wrong("task_heads", "a batch of one")
def squeezed(alpha, z):
    return (torch.einsum("tc,bchw->bthw", alpha[:, :-1], z) + alpha[:, -1, None, None]).squeeze()


@wrong("task_heads", "has no gradient")
def without_gradient(alpha, z):
    with torch.no_grad():
        return F.conv2d(z, alpha[:, :-1, None, None], alpha[:, -1])


@right("gated_sum")
def gated_by_the_package(z, g):
    return formula.mix(z.softmax(1).movedim(1, 0), g)


@right("gated_sum")
def softmax_written_out(z, g):
    e = (z - z.amax(1, keepdim=True)).exp()
    total = 0
    for i in range(len(g)):
        total = total + e[:, i : i + 1] * g[i]
    return total / e.sum(1, keepdim=True)


@right("gated_sum")
def pictures_first(z, g):
    return (z.softmax(1)[:, :, None] * g.transpose(0, 1)).sum(1)


@wrong("gated_sum", "runs over the pictures")
def softmax_after_moving_the_axes(z, g):
    return (z.transpose(0, 1).softmax(1)[:, :, None] * g).sum(0)


@wrong("gated_sum", "are the raw scores")
def no_softmax(z, g):
    return sum(z[:, i : i + 1] * g[i] for i in range(len(g)))


@wrong("gated_sum", "come from a sigmoid")
def a_sigmoid_for_each_part(z, g):
    return formula.mix(z.sigmoid().movedim(1, 0), g)


@wrong("gated_sum", "exchanged by `reshape`")
def reshaped_in_place_of_moved(z, g):
    alpha = z.softmax(1).reshape(g.shape)
    return (alpha * g).sum(0)


@wrong("gated_sum", "Its shape is")
def no_channel_axis(z, g):
    return torch.einsum("bnhw,nbhw->bhw", z.softmax(1), g[:, :, 0])


@right("fitted_alpha")
def least_squares_on_scaled_rows(g, y, m):
    root = m.sqrt()
    return torch.linalg.lstsq((g * root).T, (y * root)[:, None]).solution[:, 0]


@right("fitted_alpha")
def weighted_means(g, y, m):
    share = m / m.sum()
    A = torch.einsum("ip,jp,p->ij", g, g, share)
    return torch.linalg.inv(A) @ torch.einsum("ip,p,p->i", g, y, share)


@right("fitted_alpha")
def pixel_by_pixel(g, y, m):
    A, b = 0, 0
    for p in range(len(y)):
        column = g[:, p]
        A, b = A + m[p] * torch.outer(column, column), b + m[p] * y[p] * column
    return torch.linalg.solve(A, b)


@wrong("fitted_alpha", "ignores the weights")
def plain_least_squares(g, y, m):
    return torch.linalg.lstsq(g.T, y[:, None]).solution[:, 0]


@wrong("fitted_alpha", "on the side of the target alone")
def weights_in_b_alone(g, y, m):
    return torch.linalg.inv(g @ g.T) @ (g @ (m * y))


@wrong("fitted_alpha", "Your weights are squared")
def rows_scaled_by_m(g, y, m):
    return torch.linalg.lstsq((g * m).T, (y * m)[:, None]).solution[:, 0]


@wrong("fitted_alpha", "on the side of the parts alone")
def weights_in_A_alone(g, y, m):
    return torch.linalg.solve(torch.einsum("ip,jp,p->ij", g, g, m), g @ y)


@wrong("fitted_alpha", "Mismatched elements")
def each_part_alone(g, y, m):
    return (g * m * y).sum(1) / (g * g * m).sum(1)


@wrong("fitted_alpha", "Its shape is")
def a_column(g, y, m):
    root = m.sqrt()
    return torch.linalg.lstsq((g * root).T, (y * root)[:, None]).solution


@right("pair_tie")
def over_pairs(theta, lam):
    total = 0
    for t in range(len(theta)):
        for s in range(t):
            total = total + lam[s, t] / 2 * (theta[s] - theta[t]).square().sum()
    return total


@right("pair_tie")
def by_combinations(theta, lam):
    s, t = torch.combinations(torch.arange(len(theta), device=theta.device)).T
    return torch.dot(lam[s, t], (theta[s] - theta[t]).pow(2).sum(1)) / 2


@right("pair_tie")
def by_the_laplacian(theta, lam):
    both = lam.triu(1) + lam.triu(1).T
    return torch.trace(theta.T @ (torch.diag(both.sum(0)) - both) @ theta) / 2


@wrong("pair_tie", "each pair counts twice")
def all_ordered_pairs(theta, lam):
    total = 0
    for s in range(len(theta)):
        for t in range(len(theta)):
            total = total + lam[s, t] / 2 * (theta[s] - theta[t]).square().sum()
    return total


@wrong("pair_tie", "takes the distance of two tasks")
def not_squared(theta, lam):
    s, t = torch.triu_indices(len(theta), len(theta), 1, device=theta.device)
    return (lam[s, t] / 2 * (theta[s] - theta[t]).norm(dim=1)).sum()


@wrong("pair_tie", "2 times the right one")
def no_half(theta, lam):
    return (lam.triu(1) * (theta[:, None] - theta).square().sum(-1)).sum()


@wrong("pair_tie", "another gradient is expected")
def root_of_zero(theta, lam):
    distance = (theta[:, None] - theta).square().sum(-1).sqrt()
    return (lam.triu(1) / 2 * distance**2).sum()


@wrong("pair_tie", "Its shape is")
def not_summed_over_d(theta, lam):
    return (lam.triu(1)[:, :, None] / 2 * (theta[:, None] - theta).square()).sum((0, 1))


@right("partly_labelled")
def labels_picked_out(p, y):
    total = (0 * p).sum()
    for p_t, y_t in zip(p, y):
        known = ~y_t.isnan()
        if known.any():
            total = total + (p_t[known] - y_t[known]).square().mean() / 2
    return total


@right("partly_labelled")
def zeros_for_both(p, y):
    known = ~torch.isnan(y)
    r = p.masked_fill(~known, 0) - y.masked_fill(~known, 0)
    return 0.5 * (r * r).sum(1).div(known.sum(1).clamp(min=1)).sum()


@right("partly_labelled")
def by_the_package_tool(p, y):
    r = torch.where(y.isnan(), 0, p - torch.nan_to_num(y))
    return ((r**2).sum(1) / (~y.isnan()).sum(1).clamp(min=1) / 2).sum()


@wrong("partly_labelled", "its gradient has NaN")
def chosen_after_the_square(p, y):
    known = ~y.isnan()
    squares = torch.where(known, (p - y) ** 2, 0)
    return (squares.sum(1) / known.sum(1).clamp(min=1) / 2).sum()


@wrong("partly_labelled", "are divided by n")
def mean_over_all_pixels(p, y):
    known = ~y.isnan()
    return (p.where(known, 0) - y.where(known, 0)).square().mean(1).sum() / 2


@wrong("partly_labelled", "labels of all tasks together")
def one_mean(p, y):
    known = ~y.isnan()
    total = (p[known] - y[known]).square().sum()
    return total / 2 / known.sum().clamp(min=1)


@wrong("partly_labelled", "not for a task without a label")
def nothing_to_average(p, y):
    return torch.stack([(a[~b.isnan()] - b[~b.isnan()]).square().mean() / 2 for a, b in zip(p, y)]).sum()


@wrong("partly_labelled", "2 times the right one")
def without_the_half(p, y):
    known = ~y.isnan()
    r = (p - y.nan_to_num()) * known
    return (r.square().sum(1) / known.sum(1).clamp(min=1)).sum()


@wrong("partly_labelled", "count as labels of 0")
def missing_is_zero(p, y):
    return (p - y.nan_to_num()).square().mean(1).sum() / 2


@wrong("partly_labelled", "for no label at all your answer has no gradient")
def zero_without_gradient(p, y):
    known = ~y.isnan()
    if not known.any():
        return torch.zeros((), device=p.device)
    r = (p - y.nan_to_num()) * known
    return (r.square().sum(1) / known.sum(1).clamp(min=1)).sum() / 2


@right("one_step")
def by_autograd(w, v, X, y, alpha, eta):
    w, v = w.clone().requires_grad_(), v.clone().requires_grad_()
    task_losses = (torch.outer(X @ w, v) - y).square().mean(0) / 2
    of_w, of_v = torch.autograd.grad((alpha * task_losses).sum(), (w, v))
    return (w - eta * of_w).detach(), (v - eta * of_v).detach()


@right("one_step")
def task_by_task(w, v, X, y, alpha, eta):
    new_w, new_v = w.clone(), v.clone()
    for t in range(len(v)):
        r = v[t] * (X @ w) - y[:, t]
        new_w -= eta * alpha[t] * v[t] * (r @ X) / len(X)
        new_v[t] -= eta * alpha[t] * (r @ (X @ w)) / len(X)
    return new_w, new_v


@wrong("one_step", "use the trunk after its step")
def heads_after_the_trunk(w, v, X, y, alpha, eta):
    r = torch.outer(X @ w, v) - y
    w = w - eta * (alpha * v * (X.T @ r)).sum(1) / len(X)
    r = torch.outer(X @ w, v) - y
    v = v - eta * alpha * (X @ w @ r) / len(X)
    return w, v


@wrong("one_step", "mix two points")
def old_residuals_and_new_trunk(w, v, X, y, alpha, eta):
    r = torch.outer(X @ w, v) - y
    w = w - eta * X.T @ (r @ (alpha * v)) / len(X)
    return w, v - eta * alpha * (X @ w @ r) / len(X)


@wrong("one_step", "heads have no α")
def weights_in_the_trunk_alone(w, v, X, y, alpha, eta):
    r = torch.outer(X @ w, v) - y
    return w - eta * X.T @ r @ (alpha * v) / len(X), v - eta * (X @ w) @ r / len(X)


@wrong("one_step", "changes its arguments")
def written_into_w_and_v(w, v, X, y, alpha, eta):
    r = alpha * (torch.outer(X @ w, v) - y) / len(X)
    of_w, of_v = X.T @ r @ v, X @ w @ r
    w -= eta * of_w
    v -= eta * of_v
    return w, v


@wrong("one_step", "Mismatched elements")
def trunk_gets_the_mean(w, v, X, y, alpha, eta):
    r = alpha * (torch.outer(X @ w, v) - y) / len(X)
    return w - eta * (X.T @ r @ v) / len(v), v - eta * (X @ w @ r)


@wrong("one_step", "It is [")
def the_trunk_alone(w, v, X, y, alpha, eta):
    r = alpha * (torch.outer(X @ w, v) - y) / len(X)
    return w - eta * X.T @ r @ v


@right("pull_together")
def mean_and_rest(theta, s):
    mean = theta.mean(0, keepdim=True).expand_as(theta)
    return (theta + s * mean) / (1 + s)


@right("pull_together")
def by_a_linear_system(theta, s):
    T = len(theta)
    eye = torch.eye(T, device=theta.device)
    return torch.linalg.solve(eye + s * (eye - 1 / T), theta)


@right("pull_together")
def by_newton_on_the_package(theta, s):
    point = theta.clone().requires_grad_()

    def goal(x):
        return (x - theta).square().sum() / 2 + losses.tie([[row] for row in x], s)

    slope = torch.autograd.functional.jacobian(goal, point)
    curved = torch.autograd.functional.hessian(goal, point).reshape(theta.numel(), -1)
    return theta - torch.linalg.solve(curved, slope.flatten()).reshape(theta.shape)


@wrong("pull_together", "that of a gradient step")
def a_gradient_step(theta, s):
    return theta - s * (theta - theta.mean(0))


@wrong("pull_together", "as under a ridge")
def to_zero(theta, s):
    return theta / (1 + s)


@wrong("pull_together", "Mismatched elements")
def mean_of_the_parameters(theta, s):
    mean = theta.mean(1, keepdim=True)
    return mean + (theta - mean) / (1 + s)


@wrong("pull_together", "changes its arguments")
def mean_removed_in_place(theta, s):
    mean = theta.mean(0)
    theta -= mean
    return mean + theta / (1 + s)


@wrong("pull_together", "Its shape is")
def all_at_the_mean(theta, s):
    return theta.mean(0)
