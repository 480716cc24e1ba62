"""Answers to the exercises of lessons 03 and 04."""

import torch
import torch.nn.functional as F

from answers import right, wrong
from mtl_course import losses, metrics
from mtl_course.datasets import targets


@right("new_ids")
def each_class_in_a_new_mask(mask, table):
    new = torch.full_like(mask, 255)
    for k in range(len(table)):
        new[mask == k] = table[k]
    return new


@right("new_ids")
def a_longer_table(mask, table):
    long = table.new_full((256,), 255)
    long[: len(table)] = table
    return long[mask]


@wrong("new_ids", "put 255 back")
def ignored_as_class_0(mask, table):
    return table[torch.where(mask == 255, 0, mask)]


@wrong("new_ids", "meets its own new ids")
def one_after_the_other(mask, table):
    new = mask.clone()
    for k in range(len(table)):
        new[new == k] = table[k]
    return new


@wrong("new_ids", "changes its arguments")
def into_the_argument(mask, table):
    old = mask.clone()
    for k, new in enumerate(table):
        mask[old == k] = new
    return mask


@wrong("new_ids", "Your function stopped at")
def table_of_255(mask, table):
    return table[mask]


@wrong("new_ids", "last id of the table")
def ignored_as_the_last_class(mask, table):
    return table[mask.clamp(max=len(table) - 1)]


@right("mirrored")
def by_a_reversed_index(mask, normals):
    columns = torch.arange(mask.shape[1] - 1, -1, -1, device=mask.device)
    x, y, z = normals[:, :, columns]
    return [mask[:, columns], torch.stack([-x, y, z])]


@right("mirrored")
def by_a_copy(mask, normals):
    new = normals.flip(2).clone()
    new[0] *= -1
    return mask.flip(1), new


@wrong("mirrored", "point where they pointed before")
def pixels_only(mask, normals):
    return mask.flip(-1), normals.flip(-1)


@wrong("mirrored", "stands on its head")
def rows_exchanged(mask, normals):
    signs = torch.tensor([-1.0, 1.0, 1.0], device=normals.device)
    return mask.flip(0), normals.flip(1) * signs[:, None, None]


@wrong("mirrored", "Your mask stayed where it was")
def mask_left_behind(mask, normals):
    x, y, z = normals.flip(-1)
    return mask, torch.stack([-x, y, z])


@wrong("mirrored", "all three signs changed")
def all_signs(mask, normals):
    return mask.flip(-1), -normals.flip(-1)


@wrong("mirrored", "changes its arguments")
def sign_in_place(mask, normals):
    normals[0] *= -1
    return mask.flip(-1), normals.flip(-1)


@right("boundary_mask")
def by_four_slices(mask):
    near, unknown = torch.zeros_like(mask, dtype=torch.bool), mask == 255
    found = unknown.clone()
    for a, b in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differ = mask[a] != mask[b]
        near[a] |= differ
        near[b] |= differ
        found[a] |= unknown[b]
        found[b] |= unknown[a]
    return near.long().masked_fill(found, 255)


@right("boundary_mask")
def by_padding(mask):
    padded = F.pad(mask[None, None].double(), (1, 1, 1, 1), mode="replicate")[0, 0].long()
    middle = padded[1:-1, 1:-1]
    around = torch.stack([middle, padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    return torch.where((around == 255).any(0), 255, (around != middle).any(0).long())


@right("boundary_mask")
def by_the_package(mask):
    ids = mask.cpu().numpy()
    return torch.as_tensor(targets.boundary(ids, ids == 255), dtype=torch.int64, device=mask.device)


@wrong("boundary_mask", "nobody knows whether")
def only_its_own_255(mask):
    border = torch.zeros_like(mask)
    for dim in (0, 1):
        n = mask.shape[dim] - 1
        differ = mask.narrow(dim, 1, n) != mask.narrow(dim, 0, n)
        border.narrow(dim, 1, n)[differ] = 1
        border.narrow(dim, 0, n)[differ] = 1
    border[mask == 255] = 255
    return border


@wrong("boundary_mask", "the one above it and the one to the left")
def one_side(mask):
    border, unknown = torch.zeros_like(mask), mask == 255
    border[:-1][mask[1:] != mask[:-1]] = 1
    border[:, :-1][mask[:, 1:] != mask[:, :-1]] = 1
    grown = F.conv2d(
        unknown[None, None].float(), torch.tensor([[[[0.0, 1, 0], [1, 1, 1], [0, 1, 0]]]]).to(mask.device), padding=1
    )
    return border.masked_fill(grown[0, 0] > 0, 255)


@wrong("boundary_mask", "the one below it and the one to the right")
def behind_the_border(mask):
    border, unknown = torch.zeros_like(mask), mask == 255
    near = unknown.clone()
    near[1:] |= unknown[:-1]
    near[:-1] |= unknown[1:]
    near[:, 1:] |= unknown[:, :-1]
    near[:, :-1] |= unknown[:, 1:]
    border[1:][mask[1:] != mask[:-1]] = 1
    border[:, 1:][mask[:, 1:] != mask[:, :-1]] = 1
    border[near] = 255
    return border


@wrong("boundary_mask", "Its dtype is torch.bool")
def true_and_false(mask):
    border = torch.zeros_like(mask, dtype=torch.bool)
    border[1:] |= mask[1:] != mask[:-1]
    border[:-1] |= mask[1:] != mask[:-1]
    border[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    border[:, :-1] |= mask[:, 1:] != mask[:, :-1]
    return border


@wrong("boundary_mask", "goes on at its other edge")
def round_the_edge(mask):
    around = torch.stack([mask, *(mask.roll(step, dim) for step in (1, -1) for dim in (0, 1))])
    return torch.where((around == 255).any(0), 255, (around != mask).any(0).long())


@wrong("boundary_mask", "changes its arguments")
def into_the_mask(mask):
    unknown = mask == 255
    differ = mask[1:] != mask[:-1]
    mask[:] = 0
    mask[1:][differ] = 1
    mask[unknown] = 255
    return mask


@right("confusion_matrix")
def pair_by_pair(truth, answer, k):
    table = torch.zeros(k, k, dtype=torch.int64, device=truth.device)
    for i in range(k):
        for j in range(k):
            table[i, j] = ((truth == i) & (answer == j)).sum()
    return table


@right("confusion_matrix")
def by_one_hot(truth, answer, k):
    valid = truth != 255
    t, a = F.one_hot(truth[valid], k), F.one_hot(answer[valid], k)
    return torch.einsum("pi,pj->ij", t, a)


@right("confusion_matrix")
def by_the_metric(truth, answer, k):
    scores = metrics.SegmentationScores(range(k))
    scores.update(answer, truth)
    return scores.confusion


@wrong("confusion_matrix", "are exchanged")
def columns_are_truth(truth, answer, k):
    valid = truth != 255
    return torch.bincount(answer[valid] * k + truth[valid], minlength=k * k).reshape(k, k)


@wrong("confusion_matrix", "holds 0 and 1 only")
def one_a_cell(truth, answer, k):
    table = torch.zeros(k, k, dtype=torch.int64, device=truth.device)
    valid = truth != 255
    table[truth[valid], answer[valid]] += 1
    return table


@wrong("confusion_matrix", "Your function stopped at")
def ignored_in_the_index(truth, answer, k):
    return torch.bincount((truth * k + answer).flatten(), minlength=k * k).reshape(k, k)


@wrong("confusion_matrix", "Its shape is")
def as_many_as_there_are(truth, answer, k):
    valid = truth != 255
    n = int(max(truth[valid].max(), answer[valid].max())) + 1
    return torch.bincount(n * truth[valid] + answer[valid], minlength=n * n).view(n, n)


@wrong("confusion_matrix", "not on a GPU")
def on_the_cpu(truth, answer, k):
    table = torch.zeros(k, k, dtype=torch.int64)
    for t, a in zip(truth[truth != 255], answer[truth != 255]):
        table[t, a] += 1
    return table


@wrong("confusion_matrix", "Mismatched elements")
def ignored_as_background(truth, answer, k):
    truth = torch.where(truth == 255, 0, truth)
    return torch.bincount((truth * k + answer).flatten(), minlength=k * k).reshape(k, k)


@right("full_size_mask")
def of_the_probabilities_late(logits, image):
    return F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False).softmax(1).argmax(1)


@right("full_size_mask")
def rows_then_columns(logits, image):
    for dim in (2, 3):
        n, size = logits.shape[dim], image.shape[dim]
        place = ((torch.arange(size, device=logits.device) + 0.5) * n / size - 0.5).clamp(min=0)
        low = place.long().clamp(max=n - 1)
        share = (place - low).view(-1, *[1] * (3 - dim))
        high = (low + 1).clamp(max=n - 1)
        logits = logits.index_select(dim, low) * (1 - share) + logits.index_select(dim, high) * share
    return logits.argmax(1)


@wrong("full_size_mask", "has blocks")
def class_first(logits, image):
    ids = logits.argmax(1, keepdim=True).float()
    return F.interpolate(ids, size=image.shape[-2:])[:, 0].long()


@wrong("full_size_mask", "stretched to the corners")
def corners_aligned(logits, image):
    large = F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)
    return large.argmax(dim=1)


@wrong("full_size_mask", "Mismatched elements")
def ids_averaged(logits, image):
    ids = logits.argmax(1, keepdim=True).float()
    return F.interpolate(ids, size=image.shape[-2:], mode="bilinear")[:, 0].round().long()


@wrong("full_size_mask", "Its shape is")
def width_and_height_exchanged(logits, image):
    height, width = image.shape[-2:]
    return F.interpolate(logits, size=(width, height), mode="bilinear").argmax(1)


@wrong("full_size_mask", "Its dtype is torch.float")
def the_score_of_the_class(logits, image):
    return F.interpolate(logits, size=image.shape[-2:], mode="bilinear").max(1).values


@right("stable_cross_entropy")
def one_picture_after_the_other(logits, mask):
    total, count = (logits * 0).sum(), 0
    for z, y in zip(logits, mask):
        z, y = z[:, y != 255], y[y != 255]  # (K, P), (P,)
        shift = z.max(0).values.detach()
        of_the_sum = shift + (z - shift).exp().sum(0).log()
        total, count = total + (of_the_sum - z[y, torch.arange(len(y), device=y.device)]).sum(), count + len(y)
    return total / max(count, 1)


@right("stable_cross_entropy")
def by_log_softmax(logits, mask):
    valid = mask != 255
    per_pixel = -logits.log_softmax(1).gather(1, mask.where(valid, 0)[:, None])[:, 0]
    return per_pixel.where(valid, 0).sum() / valid.sum().clamp(min=1)


@right("stable_cross_entropy")
def by_torch(logits, mask):
    return F.cross_entropy(logits, mask, ignore_index=255, reduction="sum") / (mask != 255).sum().clamp(min=1)


@wrong("stable_cross_entropy", "log 0 is infinite")
def log_of_softmax(logits, mask):
    valid = mask != 255
    per_pixel = -logits.softmax(1).log().gather(1, mask.where(valid, 0)[:, None])[:, 0]
    return per_pixel[valid].sum() / valid.sum().clamp(min=1)


@wrong("stable_cross_entropy", "the ignored ones too")
def mean_of_all_pixels(logits, mask):
    valid = mask != 255
    mine = logits.gather(1, mask.where(valid, 0)[:, None])[:, 0]
    return ((logits.logsumexp(1) - mine) * valid).mean()


@wrong("stable_cross_entropy", "not for all pixels ignored")
def nothing_over_nothing(logits, mask):
    return F.cross_entropy(logits, mask, ignore_index=255)


@wrong("stable_cross_entropy", "Your answer has no gradient")
def a_float(logits, mask):
    return torch.tensor(losses.cross_entropy(logits, mask).item())


@wrong("stable_cross_entropy", "but for all pixels ignored your answer")
def a_new_zero(logits, mask):
    valid = mask != 255
    if not valid.any():
        return torch.tensor(0.0)
    return -logits.log_softmax(1).movedim(1, -1)[valid].gather(1, mask[valid][:, None]).mean()


@wrong("stable_cross_entropy", "For inputs")
def one_maximum_for_all(logits, mask):
    valid, z = mask != 255, logits - logits.max()
    mine = z.gather(1, mask.where(valid, 0)[:, None])[:, 0]
    return (z.exp().sum(1).log() - mine)[valid].sum() / valid.sum().clamp(min=1)


@wrong("stable_cross_entropy", "Your function stopped at")
def gather_with_255(logits, mask):
    loss = logits.logsumexp(1) - logits.gather(1, mask[:, None])[:, 0]
    return loss[mask != 255].mean()


@right("mean_iou")
def class_by_class_iou(confusions):
    table, found = confusions.sum(0).tolist(), []
    for k in range(len(table)):
        either = sum(table[k]) + sum(row[k] for row in table) - table[k][k]
        if either:
            found.append(table[k][k] / either)
    return sum(found) / len(found) if found else float("nan")


@right("mean_iou")
def chosen_classes(confusions):
    table = torch.einsum("nij->ij", confusions).double()
    hits = torch.diag(table)
    union = table.sum(0) + table.sum(1) - hits
    return (hits[union > 0] / union[union > 0]).mean()


@wrong("mean_iou", "averages over the pictures")
def each_picture_alone(confusions):
    scores = []
    for table in confusions.double():
        hits = table.diag()
        scores.append((hits / (table.sum(0) + table.sum(1) - hits)).nanmean())
    return torch.stack(scores).nanmean()


@wrong("mean_iou", "does not occur as 0")
def nothing_is_0(confusions):
    table = confusions.sum(0).double()
    hits = table.diag()
    return (hits / (table.sum(0) + table.sum(1) - hits).clamp(min=1)).mean()


@wrong("mean_iou", "Its shape is")
def one_number_a_class(confusions):
    table = confusions.sum(0).double()
    hits = table.diag()
    return hits / (table.sum(0) + table.sum(1) - hits)


@wrong("mean_iou", "answered but never true")
def classes_of_the_truth(confusions):
    table = confusions.sum(0)
    hits, truth = table.diag(), table.sum(1)
    return (hits / (truth + table.sum(0) - hits))[truth > 0].mean()


@wrong("mean_iou", "true but never answered")
def classes_of_the_answers(confusions):
    table, found = confusions.sum(0).tolist(), []
    for k in range(len(table)):
        answered = sum(row[k] for row in table)
        if answered:
            found.append(table[k][k] / (sum(table[k]) + answered - table[k][k]))
    return sum(found) / len(found)


@wrong("mean_iou", "counts the hits twice")
def intersection_counted_twice(confusions):
    table = confusions.sum(0).double()
    return (table.diag() / (table.sum(0) + table.sum(1))).nanmean()


@wrong("mean_iou", "changes its arguments")
def added_into_the_first(confusions):
    table = confusions[0]
    for other in confusions[1:]:
        table += other
    hits = table.diag()
    return (hits / (table.sum(0) + table.sum(1) - hits)).nanmean()


@right("dice_loss")
def by_einsum(logits, mask):
    valid = (mask != 255).float()
    p = logits.softmax(1)
    t = torch.stack([(mask == k).float() for k in range(logits.shape[1])], 1)
    both = torch.einsum("bkhw,bkhw->k", p, t)
    either = torch.einsum("bkhw,bhw->k", p, valid) + t.sum((0, 2, 3))
    there = t.sum((0, 2, 3)) > 0
    if not there.any():
        return (logits * 0).sum()
    return (1 - 2 * both / either)[there].mean()


@right("dice_loss")
def class_by_class(logits, mask):
    p, valid, total, count = logits.softmax(1), mask != 255, (0 * logits).sum(), 0
    for k in range(logits.shape[1]):
        t = (mask == k)[valid].float()
        if t.any():
            q = p[:, k][valid]
            total = total + 1 - 2 * (q * t).sum() / (q.sum() + t.sum())
            count += 1
    return total / max(count, 1)


@wrong("dice_loss", "sum each class over all pictures first")
def mean_of_pictures(logits, mask):
    return torch.stack([losses.dice(logits[i : i + 1], mask[i : i + 1]) for i in range(len(mask))]).mean()


@wrong("dice_loss", "average over the classes that the mask has")
def mean_over_all_classes(logits, mask):
    valid = mask != 255
    p = logits.softmax(1).movedim(1, -1)[valid]
    t = F.one_hot(mask[valid], logits.shape[1])
    return 1 - (2 * (p * t).sum(0) / (p.sum(0) + t.sum(0)).clamp(min=1e-12)).mean()


@wrong("dice_loss", "runs over the ignored pixels too")
def ignored_left_in_p(logits, mask):
    p, found = logits.softmax(1), []
    for k in mask[mask != 255].unique():
        t = (mask == k).float()
        found.append(1 - 2 * (p[:, k] * t).sum() / (p[:, k].sum() + t.sum()))
    return sum(found, 0 * logits.sum()) / max(len(found), 1)


@wrong("dice_loss", "but for all pixels ignored your answer")
def zero_of_its_own(logits, mask):
    if (mask == 255).all():
        return torch.tensor(0.0)
    return losses.dice(logits, mask)


@wrong("dice_loss", "For inputs")
def one_ratio(logits, mask):
    valid = mask != 255
    p = logits.softmax(1).movedim(1, -1)[valid]
    t = F.one_hot(mask[valid], logits.shape[1])
    return 1 - 2 * (p * t).sum() / (p.sum() + t.sum()).clamp(min=1e-12)


@wrong("dice_loss", "Your answer has no gradient")
def a_number(logits, mask):
    return losses.dice(logits, mask).item()


@wrong("dice_loss", "not for all pixels ignored")
def nothing_to_average(logits, mask):
    p, t = logits.softmax(1).movedim(1, -1)[mask != 255], F.one_hot(mask[mask != 255], logits.shape[1])
    there = t.sum(0) > 0
    return (1 - 2 * (p * t).sum(0) / (p.sum(0) + t.sum(0)))[there].mean()
