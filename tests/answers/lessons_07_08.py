"""Answers to the exercises of lessons 07 and 08."""

import math
import statistics
from itertools import combinations, product

import torch
import torch.nn.functional as F
from torch import nn

from answers import right, wrong

# 07: paired_interval


@right("paired_interval")
def by_statistics(shared, single, t):
    gains = [a - b for a, b in zip(shared.tolist(), single.tolist())]
    middle = statistics.fmean(gains)
    half = t * statistics.stdev(gains) / math.sqrt(len(gains))
    return middle - half, middle + half


@right("paired_interval")
def by_the_variance_of_a_difference(shared, single, t):
    n = len(shared)
    both = torch.stack([shared, single])
    (v, c), (_, w) = both.cov()
    half = t * torch.sqrt((v + w - 2 * c) / n)
    middle = shared.mean() - single.mean()
    return middle - half, middle + half


@wrong("paired_interval", "forgets the pairs")
def two_samples(shared, single, t):
    middle = shared.mean() - single.mean()
    half = t * (shared.var() / len(shared) + single.var() / len(single)).sqrt()
    return middle - half, middle + half


@wrong("paired_interval", "that is too small, divide by n - 1")
def as_numpy_does(shared, single, t):
    d = shared - single
    spread = ((d - d.mean()) ** 2).mean().sqrt()
    half = t * spread / len(d) ** 0.5
    return d.mean() - half, d.mean() + half


@wrong("paired_interval", "runs the other way round")
def single_minus_shared(shared, single, t):
    d = single - shared
    half = t * d.std() / len(d) ** 0.5
    return d.mean() - half, d.mean() + half


@wrong("paired_interval", "Your interval lacks √n")
def of_one_run(shared, single, t):
    d = shared - single
    return d.mean() - t * d.std(), d.mean() + t * d.std()


@wrong("paired_interval", "the upper end first")
def high_before_low(shared, single, t):
    d = shared - single
    half = t * d.std() / len(d) ** 0.5
    return d.mean() + half, d.mean() - half


@wrong("paired_interval", "the mean and the half width")
def mean_and_half_width(shared, single, t):
    d = shared - single
    return d.mean(), t * d.std() / math.sqrt(len(d))


@wrong("paired_interval", "another answer is expected")
def t_left_out(shared, single, t):
    d = shared - single
    return d.mean() - d.std() / len(d) ** 0.5, d.mean() + d.std() / len(d) ** 0.5


@wrong("paired_interval", "Your function stopped")
def numbers_have_no_mean(shared, single, t):
    d = [a - b for a, b in zip(shared, single)]
    half = t * d.std() / len(d) ** 0.5
    return d.mean() - half, d.mean() + half


# 07: expected_best


@right("expected_best")
def by_counting(scores, k):
    n, total = len(scores), 0.0
    for i, score in enumerate(sorted(scores.tolist()), 1):
        total += score * (i**k - (i - 1) ** k) / n**k
    return total


@right("expected_best")
def by_chance_to_stay_below(scores, k):
    s, n = scores.sort().values, len(scores)
    at_most = (torch.ones_like(s).cumsum(0) / n) ** k
    return s[-1] - (at_most[:-1] * s.diff()).sum()


@right("expected_best")
def by_all_draws(scores, k):
    found = [max(draw) for draw in product(scores.tolist(), repeat=k)]
    return statistics.fmean(found)


@wrong("expected_best", "without putting back")
def each_trial_once(scores, k):
    found = [max(draw) for draw in combinations(scores.tolist(), k)]
    return sum(found) / len(found)


@wrong("expected_best", "hangs on the order of the trials")
def best_so_far(scores, k):
    return scores.cummax(0).values[k - 1]


@wrong("expected_best", "expected worst of k")
def from_large_to_small(scores, k):
    n, total = len(scores), 0.0
    for i, score in enumerate(sorted(scores.tolist(), reverse=True), 1):
        total += score * ((i / n) ** k - ((i - 1) / n) ** k)
    return total


@wrong("expected_best", "the best of all n trials")
def the_best_of_all(scores, k):
    return max(scores.tolist())


@wrong("expected_best", "stand in the order of the trials")
def not_sorted(scores, k):
    n = len(scores)
    share = [((i + 1) / n) ** k - (i / n) ** k for i in range(n)]
    return sum(s * w for s, w in zip(scores, share))


@wrong("expected_best", "times the right one")
def in_points(scores, k):
    found = [100 * max(draw) for draw in product(scores.tolist(), repeat=k)]
    return sum(found) / len(found)


# 07: sign_flip


@right("sign_flip")
def by_loops(d):
    count, ways = 0, list(product((1, -1), repeat=len(d)))
    for signs in ways:
        count += abs(sum(s * x for s, x in zip(signs, d))) >= abs(sum(d))
    return count / len(ways)


@right("sign_flip")
def sum_by_sum(d):
    sums = [0]
    for x in d:
        sums = [s + x for s in sums] + [s - x for s in sums]
    return statistics.fmean(abs(s) >= abs(sum(d)) for s in sums)


@right("sign_flip")
def by_bits(d):
    x = torch.tensor(d, dtype=torch.float64)
    bits = torch.arange(2 ** len(d))[:, None] >> torch.arange(len(d)) & 1
    means = ((1 - 2 * bits) * x).mean(1)
    return (means.abs() > x.mean().abs() - 1e-9).double().mean().item()


@wrong("sign_flip", "counts one side only")
def one_side(d):
    ways = list(product((1, -1), repeat=len(d)))
    return sum(sum(s * x for s, x in zip(signs, d)) >= sum(d) for signs in ways) / len(ways)


@wrong("sign_flip", "leaves out the ties")
def only_farther(d):
    means = [sum(s * x for s, x in zip(signs, d)) for signs in product((1, -1), repeat=len(d))]
    return sum(abs(m) > abs(sum(d)) for m in means) / len(means)


@wrong("sign_flip", "lie nearer to 0")
def the_complement(d):
    means = [sum(s * x for s, x in zip(signs, d)) for signs in product((1, -1), repeat=len(d))]
    return 1 - sum(abs(m) >= abs(sum(d)) for m in means) / len(means)


@wrong("sign_flip", "another answer is expected")
def the_sign_test(d):
    n, plus = len(d), sum(x > 0 for x in d)
    tail = sum(math.comb(n, i) for i in range(min(plus, n - plus) + 1))
    return min(1.0, 2 * tail / 2**n)


@wrong("sign_flip", "Your function stopped")
def a_tuple_times_a_list(d):
    sums = [abs(sum(signs * d)) for signs in product((1, -1), repeat=len(d))]
    return sum(s >= abs(sum(d)) for s in sums) / 2 ** len(d)


# 08: forgotten


@right("forgotten")
def by_where(old, new, truth):
    return torch.where(old.eq(truth), new.ne(truth), old != old)


@right("forgotten")
def pixel_by_pixel(old, new, truth):
    found = torch.zeros_like(truth, dtype=torch.bool)
    for b, y, x in (truth != 255).nonzero().tolist():
        found[b, y, x] = old[b, y, x] == truth[b, y, x] != new[b, y, x]
    return found


@wrong("forgotten", "every change of the answer")
def where_they_differ(old, new, truth):
    return (old - new).abs() > 0


@wrong("forgotten", "every change where a truth is known")
def where_they_differ_and_it_is_known(old, new, truth):
    return (old != new) & (truth != 255)


@wrong("forgotten", "and ignored pixels (255) too")
def errors_of_the_new(old, new, truth):
    return ~(new == truth)


@wrong("forgotten", "wrong where a truth is known")
def known_errors_of_the_new(old, new, truth):
    return (new != truth) & (truth != 255)


@wrong("forgotten", "(wrong, then right)")
def the_other_direction(old, new, truth):
    return torch.where(old != truth, new == truth, torch.zeros_like(truth).bool())


@wrong("forgotten", "Its dtype is torch.int64")
def whole_numbers(old, new, truth):
    return (old == truth) * (new != truth) * 1


@wrong("forgotten", "Its shape is")
def one_number(old, new, truth):
    return (old == truth).sum() > (new == truth).sum()


# 08: running_statistics


@right("running_statistics")
def by_the_layer(x, mean, var, m):
    layer = nn.BatchNorm2d(x.shape[1], momentum=m, affine=False)
    layer.running_mean, layer.running_var = mean.clone(), var.clone()
    layer(x)
    return layer.running_mean, layer.running_var


@right("running_statistics")
def channel_by_channel(x, mean, var, m):
    means, variances = [], []
    for c in range(x.shape[1]):
        values = x[:, c].flatten()
        spread = ((values - values.mean()) ** 2).sum() / (len(values) - 1)
        means.append((1 - m) * mean[c] + m * values.mean())
        variances.append((1 - m) * var[c] + m * spread)
    return torch.stack(means), torch.stack(variances)


@right("running_statistics")
def by_the_package(x, mean, var, m):
    mean, var = mean.clone(), var.clone()
    F.batch_norm(x, mean, var, training=True, momentum=m)
    return mean, var


@wrong("running_statistics", "the past 1 - m")
def m_for_the_past(x, mean, var, m):
    batch = x.transpose(0, 1).flatten(1)
    return m * mean + (1 - m) * batch.mean(1), m * var + (1 - m) * batch.var(1)


@wrong("running_statistics", "the running one divides by N - 1")
def what_normalises_the_batch(x, mean, var, m):
    now = x.mean((0, 2, 3), keepdim=True)
    spread = ((x - now) ** 2).mean((0, 2, 3))
    return (1 - m) * mean + m * now.flatten(), (1 - m) * var + m * spread


@wrong("running_statistics", "changes its arguments")
def in_place(x, mean, var, m):
    F.batch_norm(x, mean, var, training=True, momentum=m)
    return mean, var


@wrong("running_statistics", "another answer is expected")
def standard_deviations(x, mean, var, m):
    return mean.lerp(x.mean((0, 2, 3)), m), var.lerp(x.std((0, 2, 3)), m)


@wrong("running_statistics", "the mean of the pictures' own")
def picture_by_picture(x, mean, var, m):
    return (1 - m) * mean + m * x.mean((0, 2, 3)), (1 - m) * var + m * x.var((2, 3)).mean(0)


@wrong("running_statistics", "Your function stopped")
def over_the_batch_alone(x, mean, var, m):
    return (1 - m) * mean + m * x.mean(0), (1 - m) * var.reshape_as(x[0]) + m * x.var(0)


# 08: distillation


@right("distillation")
def by_kl_div(new, old, T):
    with torch.no_grad():
        q = F.softmax(old / T, dim=1)
    each = F.kl_div(F.log_softmax(new / T, dim=1), q, reduction="none")  # (B, K, H, W)
    return T * T * each.sum(1).mean()


@right("distillation")
def pixels_first(new, old, T):
    p = (new / T).movedim(1, -1).flatten(0, -2).log_softmax(-1)  # (N, K)
    q = (old.detach() / T).movedim(1, -1).flatten(0, -2).log_softmax(-1)
    return T**2 * torch.einsum("nk,nk->", q.exp(), q - p) / len(p)


@right("distillation")
def cross_entropy_minus_entropy(new, old, T):
    q = (old.detach() / T).softmax(1)
    cross = -(q * (new / T).log_softmax(1)).sum(1)
    return T**2 * (cross + (q * q.log()).sum(1)).mean()


@wrong("distillation", "lacks the factor T²")
def no_square(new, old, T):
    q = (old.detach() / T).softmax(1)
    return F.kl_div((new / T).log_softmax(1), q, reduction="none").sum(1).mean()


@wrong("distillation", "flows into the old answers too")
def both_learn(new, old, T):
    log_q = (old / T).log_softmax(1)
    return T**2 * (log_q.exp() * (log_q - (new / T).log_softmax(1))).sum(1).mean()


@wrong("distillation", "divergence runs the other way round")
def arguments_exchanged(new, old, T):
    p, log_q = (new / T).softmax(1), (old.detach() / T).log_softmax(1)
    return T**2 * (p * (p.log() - log_q)).sum(1).mean()


@wrong("distillation", "divides by the K classes too")
def mean_over_classes_too(new, old, T):
    q = (old.detach() / T).softmax(1)
    return T**2 * F.kl_div((new / T).log_softmax(1), q, reduction="none").mean()


@wrong("distillation", "divided by B alone")
def batchmean(new, old, T):
    q = (old.detach() / T).softmax(1)
    return T**2 * F.kl_div((new / T).log_softmax(1), q, reduction="batchmean")


@wrong("distillation", "another answer is expected")
def hotter_old_answers_only(new, old, T):
    q = (old.detach() / T).softmax(1)
    return T**2 * F.kl_div(new.log_softmax(1), q, reduction="none").sum(1).mean()


@wrong("distillation", "no gradient")
def hard_answers(new, old, T):
    return (new.argmax(1) != old.argmax(1)).float().mean()
