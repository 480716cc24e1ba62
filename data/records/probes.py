"""What do the features of a trunk that saw few pictures say about depth order, adjacency and borders of objects?"""

from collections.abc import Callable
from functools import cache
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from _protocol import SIZE, TEST, build, train
from torch import Tensor, nn

from mtl_course import records
from mtl_course.datasets import Scenes
from mtl_course.datasets.layout import draw
from mtl_course.datasets.raycast import render
from mtl_course.errors import CourseError
from mtl_course.tasks import Task

PICTURES, MORE = 32, 64  # the trunk's own pictures, and others of seed 200 + seed, on which probes are fitted too
PROBED = ["semantic", "depth", "boundary"]
LEAST, BORDER, RIDGE = 20, 3, 1e-3  # pixels of a region that counts; pixel pairs of a touch; penalty of a probe
CHOSEN = records.load("tuning_scenes")["summary"]["chosen"]
PIXELS, ALONE, ALL = "pixels and position", "semantic", "all five"
ARMS = {
    PIXELS: None,
    "random": [],
    ALONE: ["semantic"],
    "semantic + boundary": ["semantic", "boundary"],
    "semantic + normals": ["semantic", "normals"],
    "semantic + depth": ["semantic", "depth"],
    ALL: ["semantic", "foreground", "depth", "normals", "boundary"],
}
PROBES = ["depth order", "adjacency", "boundary"]
BESIDE = ["with position.depth order", "with position.adjacency"]
CLAIMED = [*((probe, ALL) for probe in PROBES), ("depth order", "semantic + normals")]


def trunk(wanted: list[str] | None, seed: int) -> nn.Module:
    """A frozen trunk trained on `wanted`: images (B, 3, H, W) -> features (B, C, H, W)."""
    if wanted is None:
        return Pixels()
    data = Scenes(PICTURES, SIZE, 100 + seed, tasks=wanted or ["semantic"])
    model = build("hard", data.tasks, seed)
    if wanted:
        train(model, data, seed, **CHOSEN["equal" if len(wanted) > 1 else "alone"])
    return model.trunk.eval()


class Pixels(nn.Module):
    """No network: the three colours of a pixel, its row and its column."""

    def forward(self, images: Tensor) -> Tensor:
        return located(images)


def located(features: Tensor) -> Tensor:
    """The features, and the row and the column of each pixel in [0, 1]: (B, C + 2, H, W)."""
    side = torch.linspace(0, 1, SIZE)
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"))
    return torch.cat([features, grid.expand(len(features), -1, -1, -1)], 1)


@cache
def pictures(n: int, seed: int) -> dict[str, Tensor]:
    """Scenes with the id of each pixel's object as `regions`, (N, H, W): 0 wall, 1 floor, 2 + k object k."""
    data = Scenes(n, SIZE, seed, tasks=PROBED)
    # Drawn again as Scenes draws them, for it keeps no ids of objects.
    shown = [render(draw(np.random.default_rng([seed, i]), data.difficulty), SIZE).regions for i in range(n)]
    batch = data.stack() | {"regions": torch.from_numpy(np.stack(shown)).long()}
    if not torch.equal(batch["regions"] >= 2, batch["semantic"] >= 2):
        raise CourseError("the objects drawn here are not those of Scenes: scenes.py draws in another order now")
    return batch


def pairs(features: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """All pairs of objects a, b of one picture: means of their features (P, C), and what is true of them, (P,)."""
    found = {name: [] for name in ("a", "b", "nearer", "touch")}
    for f, depth, regions in zip(features.double(), batch["depth"][:, 0], batch["regions"]):
        masks = {k: regions == k for k in regions.unique().tolist() if k >= 2}
        for i, j in combinations([k for k, mask in masks.items() if mask.sum() >= LEAST], 2):
            a, b = masks[i], masks[j]
            found["a"].append(f[:, a].mean(1))
            found["b"].append(f[:, b].mean(1))
            found["nearer"].append(depth[a].mean() < depth[b].mean())
            found["touch"].append(border(a, b) >= BORDER)
    return {name: torch.stack(values) for name, values in found.items()}


def border(a: Tensor, b: Tensor) -> Tensor:
    """How many pixels of `a` and `b` lie side by side, counted as pairs; bool (H, W) both."""
    down, across = (a[1:] & b[:-1]) | (b[1:] & a[:-1]), (a[:, 1:] & b[:, :-1]) | (b[:, 1:] & a[:, :-1])
    return down.sum() + across.sum()


def relations(at: dict[str, Tensor], shift: Tensor, scale: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What a probe reads of each pair, (P, columns), and what it is to say, (P,)."""
    a, b = (at["a"] - shift) / scale, (at["b"] - shift) / scale
    one = torch.ones_like(a[:, :1])
    return {
        "depth order": (a - b, at["nearer"]),  # no constant: swapping a and b swaps the answer
        "adjacency": (torch.cat([(a - b).abs(), a * b, one], 1), at["touch"]),
    }


def fit(x: Tensor, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
    """The weights w (C,) that make loss_of(x w) + RIDGE |w|² least; x is (N, C)."""
    weights = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(x @ weights) + RIDGE * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def probe_pairs(seen: tuple, test: tuple) -> dict[str, float]:
    """The score of a logistic regression on each relation: accuracy of the order, area under the ROC of adjacency."""
    at, at_test = pairs(*seen), pairs(*test)
    both = torch.cat([at["a"], at["b"]])
    moments = both.mean(0), both.std(0) + 1e-9
    asked, held_out, scores = relations(at, *moments), relations(at_test, *moments), {}
    for name, (x, truth) in asked.items():
        weights = fit(x, lambda z, truth=truth: F.binary_cross_entropy_with_logits(z, truth.double()))
        x, truth = held_out[name]
        answers = x @ weights
        scores[name] = ((answers > 0) == truth).double().mean() if name == "depth order" else area(answers, truth)
    return scores | {"pairs": len(truth), "touching": truth.double().mean()}


def area(answers: Tensor, truth: Tensor) -> Tensor:
    """How often a true pair is answered higher than a false one (area under the ROC)."""
    above = answers[truth][:, None] - answers[~truth]
    return (above > 0).double().mean() + (above == 0).double().mean() / 2


def probe_boundary(seen: tuple, test: tuple, task: Task) -> float:
    """F1 of a 1×1 convolution on the features."""
    (features, batch), (held_out, batch_test) = seen, test
    pixels = features.movedim(1, -1).flatten(0, 2).double()
    shift, scale = pixels.mean(0), pixels.std(0) + 1e-9
    columns = lambda pixels: F.pad((pixels - shift) / scale, (0, 1), value=1)  # noqa: E731
    shape = lambda z: z.view(-1, 1, SIZE, SIZE)  # noqa: E731
    weights = fit(columns(pixels), lambda z: task.loss(shape(z), batch["boundary"]))
    answers = shape(columns(held_out.movedim(1, -1).double()).flatten(0, 2) @ weights)
    metric = task.metric()
    metric.update(task.decode(answers), batch_test["boundary"])
    return metric.compute()["f1"]


def run(arm: str, seed: int) -> dict:
    """Train one trunk, freeze it, fit the probes and score them on the test scenes."""
    model = trunk(ARMS[arm], seed)
    own, more = pictures(PICTURES, 100 + seed), pictures(MORE, 200 + seed)
    seen, test = {name: torch.cat([own[name], more[name]]) for name in own}, pictures(*TEST)
    with torch.no_grad():
        seen, test = (model(seen["image"]), seen), (model(test["image"]), test)
    task = Scenes(1, SIZE, tasks=PROBED).tasks["boundary"]
    beside = probe_pairs(*((located(features), batch) for features, batch in (seen, test)))
    return probe_pairs(seen, test) | {"with position": beside, "boundary": probe_boundary(seen, test, task)}


def summarise(results: list) -> dict:
    """The score of every probe, what each arm gains over semantic alone, and C4."""
    scores = {
        probe: {arm: [100 * value for value in values] for arm, values in records.by_arm(results, probe).items()}
        for probe in [*PROBES, *BESIDE]
    }
    gains = {
        f"{probe}, {arm}": [a - b for a, b in zip(scores[probe][arm], scores[probe][ALONE])] for probe, arm in CLAIMED
    }
    judged = records.judge(gains, "points over semantic alone")
    effects = [f"{setting} {e['mean']:+.1f} ± {e['half_width']:.1f}" for setting, e in judged["effects"].items()]
    means = {arm: sum(values) / len(values) for arm, values in scores["depth order"].items()}
    located_scores = scores["with position.depth order"]
    given = records.paired_difference(located_scores[ALL], located_scores[ALONE])
    sentence = (
        f"Linear probes of a trunk trained with partners on {PICTURES} pictures score so many points above those of a "
        f"trunk trained on semantic alone: {'; '.join(effects)}. The depth order of two objects is right in "
        f"{means[ALONE]:.0f} % of the pairs from semantic, {means[ALL]:.0f} % from all five, {means['random']:.0f} % "
        f"from an untrained trunk and {means[PIXELS]:.0f} % from colour and position without a network (chance: 50 %); "
        f"once position is given, all five are {given['mean']:+.1f} ± {given['half_width']:.1f} above semantic."
    )
    others = [arm for arm in ARMS if arm != ALONE]
    return {
        "scores": {p: {arm: records.mean_interval(v) for arm, v in of.items()} for p, of in scores.items()},
        "gain over semantic": {
            p: {arm: records.paired_difference(of[arm], of[ALONE], comparisons=len(others)) for arm in others}
            for p, of in scores.items()
        },
        "touching": records.by_arm(results, "touching")[ALONE][0],
        "claims": {"C4": judged | {"sentence": sentence}},
    }


EXPERIMENT = records.Experiment(
    lesson="11",
    claim="Sharing helps to represent structure and relations with few data.",
    question="Do linear probes of a frozen trunk that learned five tasks score higher than those of a trunk that "
    "learned semantic alone, on depth order, adjacency and boundary, and on depth order with normals as the "
    "only partner, all beyond simultaneous 95 % intervals?",
    protocol="Fixed before the runs. Trunks of the small U-Net (8 features a pixel), 300 steps on 32 scenes of 48×48, "
    "equal weights, learning rate and decay as tuned for one task or for several; then frozen, with their "
    "batch statistics. Probes are fitted on these 32 scenes and 64 others, and scored on 200 test scenes; "
    "ridge 0.001, nothing tuned. An object counts from 20 visible pixels on; its features are the mean over "
    "its pixels, standardised. Depth order: logistic regression on the difference of two objects, which has "
    "the smaller mean depth; accuracy, chance 50 %. Adjacency: on |a - b| and a · b, whether 3 or more pairs "
    "of their pixels lie side by side; area under the ROC, chance 50 %. Boundary: a 1×1 convolution, "
    "class-balanced; F1 with a tolerance of a pixel. The trunk of all five saw depth and boundary on its 32 "
    "scenes, so its gains there are partly what it was taught; semantic + normals was taught neither. `pixels "
    "and position` has no network: colour, row and column, since height in the picture gives much of the depth "
    "order; `random` is the trunk before training. `with position` adds row and column to the features of every "
    "trunk, to see what they say beyond it. A seed changes scenes, first weights and order; arms are paired; the "
    "test scenes stay.",
    arms=ARMS,
    seeds=range(5),
    run=run,
    summarise=summarise,
    verify=[("random", 0), ("semantic", 0)],
    tolerance=0.05,
    threads=1,
)
