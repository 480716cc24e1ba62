"""What the architectures are made of: heads, trunks made on demand, and shared features kept for the balancers."""

from collections.abc import Callable

from torch import Tensor, inf, nn

from mtl_course.errors import CourseError
from mtl_course.models.trunks import Trunk, conv_block
from mtl_course.tasks import Task, Tasks

TrunkMaker = nn.Module | Callable[[], nn.Module]


def head(in_channels: int, task: Task) -> nn.Sequential:
    """The part of one task alone: a 3×3 convolution block, then 1×1 to the task's channels."""
    return nn.Sequential(conv_block(in_channels, in_channels), nn.Conv2d(in_channels, task.channels, 1))


def make_heads(in_channels: int, tasks: Tasks) -> nn.ModuleDict:
    """A head for each task."""
    return nn.ModuleDict({name: head(in_channels, task) for name, task in tasks.items()})


def make_trunks(trunk: TrunkMaker, count: int, who: str, staged: bool = False) -> list[nn.Module]:
    """`count` fresh trunks; one that is made already will do for one alone.

    Raises:
        CourseError: if a trunk was passed where several are needed, or `staged` and it has no stages to share between.
    """
    made = [trunk] if isinstance(trunk, nn.Module) else [trunk() for _ in range(count)]
    if len(made) < count:
        raise CourseError(f"{who} needs {count} trunks: pass a function that makes one, such as UNet")
    if staged and not isinstance(made[0], Trunk):
        raise CourseError(f"{who} shares between stages: derive {type(made[0]).__name__} from mtl_course.models.Trunk")
    return made


def refuse_outside(option: str, value: float, low: float, high: float = inf) -> None:
    """Raise unless low <= value <= high and value is finite."""
    if not (low <= value <= high and value < inf):
        until = "" if high == inf else f" and <= {high}"
        raise CourseError(f"{option} must be finite, >= {low}{until}, and not {value}")


class Sharing(nn.Module):
    """A model whose tasks read shared features; it keeps those of the last forward pass.

    The predictions depend on `shared_parameters` through `representation` alone, and no tensor of the representation
    depends on another, so that ∂L/∂θ = Σ (∂L/∂z) (∂z/∂θ) over its tensors z.
    """

    shared: tuple[str, ...] = ("trunk",)  # the modules that more than one task uses
    _features: tuple[Tensor, ...] = ()

    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters θ that more than one task uses."""
        return [p for name in self.shared for p in getattr(self, name).parameters()]

    def representation(self) -> tuple[Tensor, ...]:
        """The shared features z of the last forward pass, (B, C, H, W) each."""
        return self._features

    def __getstate__(self) -> dict[str, object]:
        # Features belong to one forward pass: a copy of the model starts without them.
        return self.__dict__ | {"_features": ()}
