"""Between one trunk and T: trunks that mix at every stage, tasks that look at one trunk, and experts chosen by gates.

Every architecture maps images (B, 3, H, W) to one prediction a task, (B, channels, H, W).
"""

from torch import Tensor, cat, full, nn, stack

from mtl_course.errors import refuse_unknown
from mtl_course.formula import mix
from mtl_course.models.parts import Sharing, TrunkMaker, make_heads, make_trunks, refuse_outside
from mtl_course.models.trunks import conv_block, resize
from mtl_course.tasks import Tasks


class CrossStitch(Sharing):
    """T trunks that exchange features after every stage; α is a matrix: f_t(x) = h_t(Σ_s α_{t,s} g_s(x)).

    After stage l the trunks go on with x_t = Σ_s A^l_{t,s} x_s. The last mix is the α of the formula; its row t belongs
    to task t, so it is not shared.

    Args:
        trunk: a function that makes a trunk, such as `UNet`.
        tasks: by name.
        own: the weight of a trunk's own features at the start, 0 to 1; the others share the rest.

    Source: Misra et al., arXiv:1604.03539.
    """

    shared = ("trunks", "stitches")

    def __init__(self, trunk: TrunkMaker, tasks: Tasks, own: float = 0.9):
        super().__init__()
        refuse_outside("own", own, 0, 1)
        count = len(tasks)
        self.trunks = nn.ModuleList(make_trunks(trunk, count, "CrossStitch", staged=True))
        start = full((count, count), (1 - own) / max(count - 1, 1)).fill_diagonal_(own if count > 1 else 1)
        self.stitches = nn.ParameterList(start.clone() for _ in self.trunks[0].widths)  # A^l, (T, T) each
        self.alpha = nn.Parameter(start)  # (T, T)
        self.heads = make_heads(self.trunks[0].out_channels, tasks)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        states, skips = [images] * len(self.trunks), []
        for level, stitch in enumerate(self.stitches):
            outputs = stack([trunk.stage(level, x) for trunk, x in zip(self.trunks, states)])
            states = [mix(row, outputs) for row in stitch]  # T maps (B, widths[level], H', W')
            skips.append(states)
        size = images.shape[-2:]
        self._features = tuple(trunk.decode(own, size)[-1] for trunk, own in zip(self.trunks, zip(*skips)))
        decoded = stack(self._features)  # (T, B, C, H, W)
        return {name: resize(h(mix(row, decoded)), size) for (name, h), row in zip(self.heads.items(), self.alpha)}


class Attention(nn.Module):
    """What one task takes from one level of the trunk: â = a ⊙ z, a = sigmoid(conv([z; what it carries])).

    Args:
        shared: channels of z.
        carried: channels of what the task brings from the level before; 0 for the first level.
        out: channels that it carries on; None for the last level, whose head begins with a convolution of its own.
    """

    def __init__(self, shared: int, carried: int, out: int | None):
        super().__init__()
        scores = nn.Sequential(nn.Conv2d(shared, shared, 1), nn.BatchNorm2d(shared))
        self.mask = nn.Sequential(conv_block(shared + carried, shared, size=1), scores, nn.Sigmoid())
        self.carry = conv_block(shared, out) if out else nn.Identity()

    def forward(self, z: Tensor, carried: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the task carries on, (B, out, H, W), and the mask a, (B, shared, H, W)."""
        mask = self.mask(z if carried is None else cat([z, resize(carried, z.shape[-2:])], dim=1))
        return self.carry(mask * z), mask


class AttentionSharing(Sharing):
    """One trunk, and for each task a soft choice, by attention, of what it reads at every level (MTAN).

    Args:
        trunk: the shared part, or a function that makes it.
        tasks: by name.

    Source: Liu et al., arXiv:1803.10704. There the tasks share the convolutions that carry on; here each task has
    its own, so that the trunk is all that is shared; and attention reads the output of each stage and level.
    """

    def __init__(self, trunk: TrunkMaker, tasks: Tasks):
        super().__init__()
        (self.trunk,) = make_trunks(trunk, 1, "AttentionSharing", staged=True)
        widths = [*self.trunk.widths, *self.trunk.up_widths]
        levels = list(zip(widths, [0, *widths[1:]], [*widths[1:], None]))
        self.attention = nn.ModuleDict({name: nn.ModuleList(Attention(*level) for level in levels) for name in tasks})
        self.heads = make_heads(self.trunk.out_channels, tasks)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self._features = self._levels(images)
        size = images.shape[-2:]
        return {name: resize(h(self._read(name, self._features)[0]), size) for name, h in self.heads.items()}

    def masks(self, images: Tensor) -> dict[str, list[Tensor]]:
        """The masks a of every task at every level, (B, C, H', W') in [0, 1]; it runs the trunk, so be in eval mode."""
        levels = self._levels(images)
        return {name: self._read(name, levels)[1] for name in self.heads}

    def _levels(self, images: Tensor) -> tuple[Tensor, ...]:
        skips = self.trunk.encode(images)
        # The tasks get views: a level's own tensor also leads to the levels after it, its view to the tasks alone.
        return tuple(z.view_as(z) for z in [*skips, *self.trunk.decode(skips, images.shape[-2:])])

    def _read(self, name: str, levels: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        carried, masks = None, []
        for attention, z in zip(self.attention[name], levels):
            carried, mask = attention(z, carried)
            masks.append(mask)
        return carried, masks


class Gate(nn.Module):
    """α(x) of one task: scores of the experts from the picture at a quarter of its size, then softmax.

    The scores of a picture are the means of those of its pixels. Without batch norm, so that a picture's α does not
    depend on the other pictures of the batch.
    """

    def __init__(self, experts: int, pixels: bool, channels: int = 16):
        super().__init__()
        self.pixels = pixels
        first, second = (nn.Conv2d(n, channels, 3, padding=1) for n in (3, channels))
        self.scores = nn.Sequential(first, nn.ReLU(True), second, nn.ReLU(True), nn.Conv2d(channels, experts, 1))

    def forward(self, images: Tensor) -> Tensor:
        """α(x), (N, B) or (N, B, H, W)."""
        small = nn.functional.adaptive_avg_pool2d(images, [max(side // 4, 1) for side in images.shape[-2:]])
        scores = self.scores(small)  # (B, N, H/4, W/4)
        scores = resize(scores, images.shape[-2:]) if self.pixels else scores.mean((2, 3))
        return scores.softmax(1).movedim(1, 0)


class Mixture(Sharing):
    """Experts g_i that all tasks share and each task weighs by its own gate: f_t(x) = h_t(Σ_i α_{t,i}(x) g_i(x)).

    Args:
        trunk: a function that makes an expert, such as `UNet`.
        tasks: by name.
        experts: N, 1 to 100.
        gate: "picture", one α for all pixels of a picture, or "pixel", one for each.

    Source: Ma et al., "Modeling task relationships in multi-task learning with multi-gate mixture-of-experts", KDD
    2018.
    """

    shared = ("experts",)

    def __init__(self, trunk: TrunkMaker, tasks: Tasks, experts: int = 3, gate: str = "picture"):
        super().__init__()
        refuse_outside("experts", experts, 1, 100)
        refuse_unknown("gate", [gate], ("picture", "pixel"))
        self.experts = nn.ModuleList(make_trunks(trunk, experts, "Mixture"))
        self.by_pixel = gate == "pixel"
        self.gates = nn.ModuleDict({name: Gate(experts, self.by_pixel) for name in tasks})
        self.heads = make_heads(self.experts[0].out_channels, tasks)

    def alpha(self, images: Tensor) -> dict[str, Tensor]:
        """α(x) of every task, (N, B) or (N, B, H, W); it sums to 1 over the N experts."""
        return {name: gate(images) for name, gate in self.gates.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        alpha = self.alpha(images)
        self._features = tuple(expert(images) for expert in self.experts)
        outputs, size = stack(self._features), images.shape[-2:]  # (N, B, C, H, W)
        if self.by_pixel:
            alpha = {name: resize(a, outputs.shape[-2:]) for name, a in alpha.items()}
        return {name: resize(h(mix(alpha[name], outputs)), size) for name, h in self.heads.items()}
