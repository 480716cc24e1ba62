"""Answers to the exercises of lessons 05 and 06."""

import torch
import torch.nn.functional as F

from answers import right, wrong
from mtl_course import balancing


@right("times_cheaper")
def added_up(trunk, heads):
    networks, one = 0.0, trunk
    for head in heads.tolist():
        networks += trunk + head
        one += head
    return networks / one


@right("times_cheaper")
def by_the_excess(trunk, heads):
    return 1 + (len(heads) - 1) * trunk / (trunk + heads.sum())


@wrong("times_cheaper", "as if heads were free")
def heads_are_free(trunk, heads):
    return len(heads)


@wrong("times_cheaper", "upside down")
def one_over_many(trunk, heads):
    return (trunk + heads.sum()) / (trunk + heads).sum()


@wrong("times_cheaper", "the share that is saved")
def saved(trunk, heads):
    many, one = (trunk + heads).sum(), trunk + heads.sum()
    return (many - one) / many


@wrong("times_cheaper", "Its shape is")
def not_added(trunk, heads):
    return len(heads) * (trunk + heads) / (trunk + heads.sum())


@wrong("times_cheaper", "but got")
def equal_heads(trunk, heads):
    T, head = len(heads), heads[0]
    return T * (trunk + head) / (trunk + T * head)


@right("cross_stitched")
def by_a_matrix(x, own):
    T = len(x)
    stitch = x.new_full((T, T), (1 - own) / (T - 1))
    stitch.fill_diagonal_(own)
    return torch.einsum("ts,sbchw->tbchw", stitch, x)


@right("cross_stitched")
def task_by_task(x, own):
    out = torch.zeros_like(x)
    for t in range(len(x)):
        others = torch.cat([x[:t], x[t + 1 :]])
        out[t] = own * x[t] + (1 - own) * others.mean(0)
    return out


@wrong("cross_stitched", "divide their sum by T - 1")
def sum_of_the_others(x, own):
    out = []
    for t in range(len(x)):
        others = sum(x[s] for s in range(len(x)) if s != t)
        out.append(own * x[t] + (1 - own) * others)
    return torch.stack(out)


@wrong("cross_stitched", "subtract them from the sum")
def mean_of_all(x, own):
    return own * x + (1 - own) * x.mean(0, keepdim=True)


@wrong("cross_stitched", "you divide by T.")
def one_too_many(x, own):
    T = len(x)
    stitch = (1 - own) / T * torch.ones(T, T, device=x.device)
    stitch[range(T), range(T)] = own
    return (stitch @ x.flatten(1)).view_as(x)


@wrong("cross_stitched", "changes its arguments")
def in_place(x, own):
    for t in range(len(x)):
        x[t] = own * x[t] + (1 - own) * (x.sum(0) - x[t]) / (len(x) - 1)
    return x


@wrong("cross_stitched", "read features that are mixed already")
def reads_what_is_mixed_already(x, own):
    mixed = x.clone()
    for t in range(len(x)):
        mixed[t] = own * mixed[t] + (1 - own) * (mixed.sum(0) - mixed[t]) / (len(x) - 1)
    return mixed


@wrong("cross_stitched", "Mismatched elements")
def shares_exchanged(x, own):
    others = torch.stack([(x.sum(0) - one) / (len(x) - 1) for one in x])
    return (1 - own) * x + own * others


@wrong("cross_stitched", "not on a GPU")
def a_matrix_on_the_cpu(x, own):
    T = len(x)
    stitch = own * torch.eye(T) + (1 - own) / (T - 1) * (1 - torch.eye(T))
    return torch.einsum("ts,sbchw->tbchw", stitch, x)


@right("attended")
def by_convolution(z, W):
    masks = [torch.sigmoid(F.conv2d(z, weight[:, :, None, None])) for weight in W]
    return torch.stack([mask * z for mask in masks])


@right("attended")
def pixels_last(z, W):
    pixels = z.movedim(1, -1)  # (B, H, W, C)
    read = [pixels / (1 + torch.exp(-pixels @ weight.T)) for weight in W]
    return torch.stack(read).movedim(-1, 2)


@wrong("attended", "Your answer is the mask")
def nothing_read(z, W):
    return torch.stack([torch.sigmoid(F.conv2d(z, weight[:, :, None, None])) for weight in W])


@wrong("attended", "sums to 1 over the channels")
def channels_compete(z, W):
    return torch.stack([F.softmax(F.conv2d(z, weight[:, :, None, None]), dim=1) * z for weight in W])


@wrong("attended", "sums to 1 over the tasks")
def tasks_compete(z, W):
    scores = torch.stack([F.conv2d(z, weight[:, :, None, None]) for weight in W])
    return scores.softmax(0) * z


@wrong("attended", "Your W is transposed")
def weights_transposed(z, W):
    return torch.sigmoid(torch.einsum("tcd,bchw->tbdhw", W, z)) * z


@wrong("attended", "Your answer carries z on")
def masks_that_carry(z, W):
    masks = torch.sigmoid(torch.einsum("tdc,bchw->tbdhw", W, z))
    return z + masks * z


@wrong("attended", "another gradient is expected")
def masks_do_not_learn(z, W):
    with torch.no_grad():
        masks = torch.sigmoid(torch.einsum("tdc,bchw->tbdhw", W, z))
    return masks * z


@right("expert_balance")
def by_variance(alpha):
    load = alpha.sum(dim=(0, 2))
    return load.var(correction=0) / load.mean() ** 2


@right("expert_balance")
def by_shares(alpha):
    share = torch.stack([alpha[:, i].sum() / alpha.sum() for i in range(alpha.shape[1])])
    return len(share) * share @ share - 1


@wrong("expert_balance", "judges each task alone")
def for_each_task(alpha):
    found = []
    for of_task in alpha:
        load = of_task.sum(1)
        found.append(load.var(correction=0) / load.mean() ** 2)
    return sum(found) / len(found)


@wrong("expert_balance", "judges each picture alone")
def for_each_picture(alpha):
    return (alpha.var(1, correction=0) / alpha.mean(1).square()).mean()


@wrong("expert_balance", "Your Ω compares pictures")
def load_of_pictures(alpha):
    load = alpha.sum((0, 1))
    return ((load - load.mean()) ** 2).mean() / load.mean() ** 2


@wrong("expert_balance", "divides by N - 1")
def one_less(alpha):
    load = alpha.sum((0, 2))
    return load.var() / load.mean().square()


@wrong("expert_balance", "the variance itself")
def not_relative(alpha):
    load = torch.einsum("tnb->n", alpha)
    return torch.mean((load - load.mean()) ** 2)


@wrong("expert_balance", "the standard deviation")
def deviation_without_the_square(alpha):
    load = alpha.sum((0, 2))
    return load.std(correction=0) / load.mean()


@wrong("expert_balance", "has no gradient")
def how_often_chosen(alpha):
    load = torch.bincount(alpha.argmax(1).flatten(), minlength=alpha.shape[1]).float()
    return load.var(correction=0) / load.mean() ** 2


@right("harmed")
def weighted_by_hand(J, alpha):
    d = sum(a * g for a, g in zip(alpha, J))
    return torch.stack([(g * d).sum() < 0 for g in J])


@right("harmed")
def from_the_gramian(J, alpha):
    return torch.einsum("in,jn,j->i", J, J, alpha).lt(0)


@wrong("harmed", "weight the gradients by α")
def of_the_plain_sum(J, alpha):
    d = J.sum(0)
    return J @ d < 0


@wrong("harmed", "whether two gradients conflict")
def conflicts_with_any(J, alpha):
    cosines = F.normalize(J, dim=1) @ F.normalize(J, dim=1).T
    return cosines.amin(1) < 0


@wrong("harmed", "Your sign is turned")
def along_d(J, alpha):
    step = -(alpha @ J)
    return J @ step < 0


@wrong("harmed", "Right on ordinary inputs")
def zero_counts(J, alpha):
    return ~((alpha @ J) @ J.T > 0)


@wrong("harmed", "Its dtype is")
def how_much(J, alpha):
    return (J @ (alpha @ J)).clamp(max=0)


@right("uncertainty_weighted")
def chosen_first(L, s):
    there = torch.isfinite(L)
    return 0.5 * (L[there] / s[there].exp() + s[there]).sum()


@right("uncertainty_weighted")
def by_the_package(L, s):
    rule, present = balancing.Uncertainty(len(L)), (~L.isnan()).nonzero().flatten().tolist()
    del rule.s
    rule.s = s
    return rule.weights(L, present) @ L[present] + rule.penalty(present)


@wrong("uncertainty_weighted", "0 · NaN is NaN")
def chosen_too_late(L, s):
    return torch.where(L.isnan(), 0.0, 0.5 * torch.exp(-s) * L + 0.5 * s).sum()


@wrong("uncertainty_weighted", "without this price")
def no_price(L, s):
    there = ~L.isnan()
    return 0.5 * ((-s[there]).exp() * L[there]).sum()


@wrong("uncertainty_weighted", "at every such batch")
def pays_for_all(L, s):
    weights = 0.5 * torch.exp(-s)
    return (weights * torch.nan_to_num(L)).sum() + 0.5 * s.sum()


@wrong("uncertainty_weighted", "Your weight grows with s")
def weight_grows(L, s):
    there = ~L.isnan()
    return 0.5 * torch.sum(torch.exp(s[there]) * L[there] + s[there])


@wrong("uncertainty_weighted", "Its shape is")
def price_outside_the_sum(L, s):
    there = ~L.isnan()
    return (0.5 * torch.exp(-s[there]) * L[there]).sum() + 0.5 * s[there]


@wrong("uncertainty_weighted", "2 times the right one")
def no_half(L, s):
    there = ~L.isnan()
    return ((-s[there]).exp() * L[there] + s[there]).sum()


@wrong("uncertainty_weighted", "not for NaN in L")
def nan_spreads(L, s):
    return 0.5 * (torch.exp(-s) * L + s).sum()


@right("projected")
def with_if(g, others):
    p = g.clone()
    for other in others:
        product = torch.dot(p, other)
        if product < 0:
            p = p - product / torch.dot(other, other) * other
    return p


@right("projected")
def by_unit_vectors(g, others):
    for unit in F.normalize(others, dim=1):
        g = g + (-(unit @ g)).relu() * unit
    return g


@wrong("projected", "only where the product is negative")
def always(g, others):
    p = g
    for other in others:
        p = p - (p @ other) / (other @ other) * other
    return p


@wrong("projected", "use p as it stands")
def all_at_once(g, others):
    p = g.clone()
    for other in others:
        if g @ other < 0:
            p = p - (g @ other) / (other @ other) * other
    return p


@wrong("projected", "divide by the squared length")
def length_not_squared(g, others):
    p = g.clone()
    for other in others:
        if p @ other < 0:
            p = p - (p @ other) / other.norm() * other
    return p


@wrong("projected", "changes its arguments")
def g_is_changed(g, others):
    for other in others:
        g -= (g @ other).clamp(max=0) / (other @ other) * other
    return g


@wrong("projected", "Mismatched elements")
def wrong_way(g, others):
    p = g.clone()
    for other in others:
        if p @ other < 0:
            p = p + (p @ other) / (other @ other) * other
    return p


@wrong("projected", "Its shape is")
def every_step(g, others):
    steps = [g]
    for other in others:
        steps.append(steps[-1] - (steps[-1] @ other).clamp(max=0) / (other @ other) * other)
    return torch.stack(steps)


@right("frank_wolfe")
def from_vectors(J, alpha):
    d = alpha @ J
    k = min(range(len(J)), key=lambda i: (J[i] @ d).item())
    gamma = (d @ (d - J[k]) / (d - J[k]).square().sum()).clamp(0, 1)
    new = (1 - gamma) * alpha
    new[k] += gamma
    return new


@right("frank_wolfe")
def as_mgda_of_two(J, alpha):
    k = (J @ J.T @ alpha).argmin()
    pair = torch.stack([J[k], alpha @ J]).double()
    gamma = balancing.mgda(pair @ pair.T)[0].to(alpha)
    return torch.stack([(1 - gamma) * a + gamma * (i == k) for i, a in enumerate(alpha)])


@wrong("frank_wolfe", "past the tip")
def not_cut_off(J, alpha):
    d = alpha @ J
    k = (J @ d).argmin()
    gamma = d @ (d - J[k]) / (d - J[k]).square().sum()
    new = (1 - gamma) * alpha
    new[k] += gamma
    return new


@wrong("frank_wolfe", "are exchanged")
def other_way_round(J, alpha):
    d = alpha @ J
    k = (J @ d).argmin()
    gamma = (d @ (d - J[k]) / (d - J[k]).square().sum()).clamp(0, 1)
    new = gamma * alpha
    new[k] += 1 - gamma
    return new


@wrong("frank_wolfe", "Your α does not move")
def sign_of_gamma(J, alpha):
    d = alpha @ J
    k = (J @ d).argmin()
    gamma = (d @ (J[k] - d) / (d - J[k]).square().sum()).clamp(0, 1)
    new = (1 - gamma) * alpha
    new[k] += gamma
    return new


@wrong("frank_wolfe", "changes its arguments")
def alpha_is_changed(J, alpha):
    d = alpha @ J
    k = (J @ d).argmin()
    gamma = (d @ (d - J[k]) / (d - J[k]).square().sum()).clamp(0, 1)
    alpha *= 1 - gamma
    alpha[k] += gamma
    return alpha


@wrong("frank_wolfe", "Its shape is")
def the_step_itself(J, alpha):
    d = alpha @ J
    k = (J @ d).argmin()
    gamma = (d @ (d - J[k]) / (d - J[k]).square().sum()).clamp(0, 1)
    return torch.stack([1 - gamma, gamma]).flatten()[:, None] * torch.stack([d, J[k]])


@wrong("frank_wolfe", "Mismatched elements")
def always_half_way(J, alpha):
    k = (J @ (alpha @ J)).argmin()
    new = alpha / 2
    new[k] += 0.5
    return new
