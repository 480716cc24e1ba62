"""How tasks share a trunk.

Every architecture maps images (B, 3, H, W) to one prediction a task, (B, channels, H, W).
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.models.trunks import UNet, conv_block
from mtl_course.tasks import Task, Tasks

Trunk = nn.Module | Callable[[], nn.Module]


def head(in_channels: int, task: Task) -> nn.Sequential:
    """The part of one task alone: a 3×3 convolution block, then 1×1 to the task's channels."""
    return nn.Sequential(conv_block(in_channels, in_channels), nn.Conv2d(in_channels, task.channels, 1))


def _make(trunk: Trunk) -> nn.Module:
    return trunk if isinstance(trunk, nn.Module) else trunk()


class SingleTask(nn.Module):
    """T tasks, T networks: nothing is shared. With one task, the usual segmentation network.

    Args:
        trunk: for one task a trunk; for several a function that makes a fresh one, such as `UNet`.
        tasks: by name.
    """

    def __init__(self, trunk: Trunk, tasks: Tasks):
        super().__init__()
        if isinstance(trunk, nn.Module) and len(tasks) > 1:
            raise CourseError("SingleTask needs a trunk for each task: pass a function that makes one, such as UNet")
        self.trunks = nn.ModuleDict({name: _make(trunk) for name in tasks})
        self.heads = nn.ModuleDict({name: head(self.trunks[name].out_channels, task) for name, task in tasks.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {name: self.heads[name](trunk(images)) for name, trunk in self.trunks.items()}

    def shared_parameters(self) -> list[nn.Parameter]:
        """None: the networks have nothing in common."""
        return []


class HardSharing(nn.Module):
    """One trunk, a head a task: f_t(x) = h_t(g(x, θ), θ_t).

    Args:
        trunk: the shared part, or a function that makes it.
        tasks: by name.

    Source: Caruana, "Multitask learning", Machine Learning 28, 1997.
    """

    def __init__(self, trunk: Trunk, tasks: Tasks):
        super().__init__()
        self.trunk = _make(trunk)
        self.heads = nn.ModuleDict({name: head(self.trunk.out_channels, task) for name, task in tasks.items()})
        self._features: tuple[Tensor, ...] = ()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.trunk(images)  # (B, C, H, W), computed once for all tasks
        self._features = (features,)
        return {name: h(features) for name, h in self.heads.items()}

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters θ that every task uses."""
        return list(self.trunk.parameters())

    def representation(self) -> tuple[Tensor, ...]:
        """The shared features z of the last forward pass, (B, C, H, W) each."""
        return self._features

    def __getstate__(self) -> dict[str, Any]:
        # Features belong to one forward pass: a copy of the model starts without them.
        return self.__dict__ | {"_features": ()}


ARCHITECTURES = {"single": SingleTask, "hard": HardSharing}
TRUNKS = {"unet": UNet}


def build(model: str, trunk: str, tasks: Tasks, **trunk_options: Any) -> nn.Module:
    """A model from names, as the command line and the checkpoints give them.

    Args:
        model: "single" or "hard".
        trunk: "unet".
        tasks: by name.
        trunk_options: passed to the trunk, such as channels.

    Raises:
        CourseError: on an unknown name, with the nearest right one.
    """
    refuse_unknown("model", [model], ARCHITECTURES)
    refuse_unknown("trunk", [trunk], TRUNKS)
    built = ARCHITECTURES[model](lambda: TRUNKS[trunk](**trunk_options), tasks)
    built.recipe = {"model": model, "trunk": trunk, "trunk_options": trunk_options}
    return built
