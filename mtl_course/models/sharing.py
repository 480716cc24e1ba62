"""How tasks share a trunk: not at all, wholly, or by a tie; `mixing` holds what lies between.

Every architecture maps images (B, 3, H, W) to one prediction a task, (B, channels, H, W).
"""

import copy
from functools import partial

from torch import Tensor, nn

from mtl_course import losses, spec
from mtl_course.models.backbones import NETWORKS, backbone
from mtl_course.models.mixing import AttentionSharing, CrossStitch, Mixture
from mtl_course.models.parts import Sharing, TrunkMaker, head, make_heads, make_trunks, refuse_outside
from mtl_course.models.trunks import UNet, resize
from mtl_course.tasks import Tasks


class SingleTask(nn.Module):
    """T tasks, T networks: nothing is shared. With one task, the usual segmentation network.

    Args:
        trunk: for one task a trunk; for several a function that makes a fresh one, such as `UNet`.
        tasks: by name.
    """

    def __init__(self, trunk: TrunkMaker, tasks: Tasks):
        super().__init__()
        self.trunks = nn.ModuleDict(zip(tasks, make_trunks(trunk, len(tasks), "SingleTask")))
        self.heads = nn.ModuleDict({name: head(self.trunks[name].out_channels, task) for name, task in tasks.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {name: resize(self.heads[name](t(images)), images.shape[-2:]) for name, t in self.trunks.items()}

    def shared_parameters(self) -> list[nn.Parameter]:
        """None: the networks have nothing in common."""
        return []


class SoftSharing(SingleTask):
    """T networks whose trunks are tied by Ω(θ) = strength / 2 · Σ_t ‖θ_t - θ̄‖².

    strength → 0 leaves T single networks, strength → ∞ makes hard sharing of them. No parameter belongs to two tasks,
    so nothing is shared in the balancers' sense. All trunks start alike: the tie compares weights one by one, and units
    that stand for different things have no mean worth pulling to; so Ω starts at 0.

    Args:
        trunk: the first task's trunk, or a function that makes it; the others start as copies.
        tasks: by name.
        strength: λ >= 0.

    Source: Evgeniou and Pontil, "Regularized multi-task learning", KDD 2004; for networks Duong et al., "Low resource
    dependency parsing: cross-lingual parameter sharing in a neural network parser", ACL 2015.
    """

    def __init__(self, trunk: TrunkMaker, tasks: Tasks, strength: float = 1e-2):
        refuse_outside("strength", strength, 0)
        (first,) = make_trunks(trunk, 1, "SoftSharing")
        super().__init__(lambda: copy.deepcopy(first), tasks)
        self.strength = strength

    def omega(self) -> Tensor:
        """Ω(θ), which `fit` adds to the losses."""
        return losses.tie([list(trunk.parameters()) for trunk in self.trunks.values()], self.strength)


class HardSharing(Sharing):
    """One trunk, a head a task: f_t(x) = h_t(g(x, θ), θ_t).

    Args:
        trunk: the shared part, or a function that makes it.
        tasks: by name.

    Source: Caruana, "Multitask learning", Machine Learning 28, 1997.
    """

    def __init__(self, trunk: TrunkMaker, tasks: Tasks):
        super().__init__()
        (self.trunk,) = make_trunks(trunk, 1, "HardSharing")
        self.heads = make_heads(self.trunk.out_channels, tasks)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.trunk(images)  # (B, C, H, W), computed once for all tasks
        self._features = (features,)
        return {name: resize(h(features), images.shape[-2:]) for name, h in self.heads.items()}


ARCHITECTURES = {"single": SingleTask, "hard": HardSharing, "soft": SoftSharing, "cross-stitch": CrossStitch,
                 "attention": AttentionSharing, "mixture": Mixture}  # fmt: skip
TRUNKS = {"unet": UNet} | {name: partial(backbone, name) for name in NETWORKS}


def build(model: str, trunk: str, tasks: Tasks, **trunk_options: object) -> nn.Module:
    """A model from names, as the command line and the checkpoints give them.

    Args:
        model: a name of `ARCHITECTURES`, with options where it has some: "hard", "mixture:experts=4,gate=pixel".
        trunk: a name of `TRUNKS`: "unet", "resnet18", "efficientnet_lite0" ...
        tasks: by name.
        trunk_options: passed to the trunk, such as channels of a U-Net, or pretrained of a known network.

    Raises:
        CourseError: on an unknown name or option, with the nearest right one.
    """
    _, architecture = spec.choose("model", model, ARCHITECTURES)
    trunk, make = spec.choose("trunk", trunk, TRUNKS)
    options = getattr(make, "keywords", {}) | trunk_options
    built = architecture(lambda: make(**options), tasks)
    # A checkpoint brings its weights: those of ImageNet need not be there to build the model again.
    options = {name: value for name, value in options.items() if name != "pretrained"}
    built.recipe = {"model": model, "trunk": trunk, "trunk_options": options}
    return built
