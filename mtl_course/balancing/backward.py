"""The multi-task backward pass: d = Σ αᵢ gᵢ for what the tasks share, plain gradients for what they do not."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtl_course import distributed
from mtl_course.balancing.flat import add_gradients, are_apart, flat, gramian_of, split, trained, walk
from mtl_course.balancing.loss_rules import LossRule
from mtl_course.errors import CourseError

Rule = Callable[..., Tensor] | LossRule


def multitask_backward(losses: Mapping[str, Tensor] | Sequence[Tensor], model: nn.Module, rule: Rule,
                       wrt: str = "parameters", scaler: torch.amp.GradScaler | None = None,
                       tasks: Sequence[str] | None = None) -> Tensor:  # fmt: skip
    """Add to `.grad`: of shared parameters Σ αᵢ ∂Lᵢ/∂θ, of a task's own parameters its plain ∂Lᵢ/∂θ.

    "parameters" sends the gradient of each task through the shared part, K times, keeps the K flat gradients and adds
    them up with α. "representation" takes the Gramian of the gradients with respect to z = `model.representation()`,
    and sends Σ αᵢ ∂Lᵢ/∂z through the shared part once. Rules that read no gradients (`equal`, `fixed`, those on losses)
    stand for a loss Σ αᵢLᵢ: they cost one backward, whose α reaches all parameters.

    Args:
        losses: scalars of the tasks that this batch has, by name, or one a task in order.
        model: has `shared_parameters()`, and for "representation" also `representation()`.
        rule: a function of the Gramian, or a rule on losses; a rule's own parameters get their gradient too.
        wrt: "parameters" or "representation".
        scaler: of mixed precision in float16; the gradients stay scaled by it, and the rule sees them unscaled.
        tasks: all K, in the order of α; those not in `losses` are absent from this batch. Default the model's `heads`,
            or what `losses` names.

    A loop of your own also gives `rule.parameters()` to the optimizer, and calls `rule.after_step(new_losses)` where
    `rule.wants_new_losses`, and `rule.after_epoch()`. To accumulate n batches, pass undivided losses and divide every
    gradient by n before the step: the penalty of Uncertainty is no loss of a batch.

    Returns:
        α, float64 on the CPU, (K,), 0 for absent tasks. NaN where the scale of `scaler` was too high: the gradients are
        then not finite, and `scaler.step` skips the step.

    Raises:
        RuleNotDefined: if the rule gives no α here.
        CourseError: if a gradient rule meets a model that shares nothing, a loss is no scalar or does not depend on
            what is trained, or the rule is for another number of tasks. No gradient is changed by either.
    """
    if isinstance(rule, str | type):
        raise CourseError(f"a rule is a function or an object, and not {rule!r}: balancing.make makes one of a name")
    if wrt not in ("parameters", "representation"):
        raise CourseError(f"wrt is 'parameters' or 'representation', and not {wrt!r}")
    named = isinstance(losses, Mapping)
    terms = dict(losses) if named else dict(zip(tasks or range(len(losses)), losses))
    names = list(tasks or (getattr(model, "heads", terms) if named else terms))
    if not set(terms) <= set(names):
        raise CourseError(f"there are losses of {list(terms)} and tasks {names}: name all tasks in `tasks`")
    if isinstance(rule, LossRule) and rule.count != len(names):
        raise CourseError(f"{type(rule).__name__} is for {rule.count} tasks, and not for {names}: name all in `tasks`")
    for name, loss in terms.items():
        if not loss.requires_grad or loss.ndim:
            raise CourseError(f"the loss of {name!r} is no scalar that depends on a trained parameter: leave it out")
    present = [names.index(name) for name in terms]
    alpha = torch.zeros(len(names), dtype=torch.float64)
    if terms:
        step = _Step(list(terms.values()), model, rule, present, len(names), scaler)
        found = step.backward_each(wrt) if "gramian" in reads_of(rule) else step.backward_once()
        alpha[present] = found.to(alpha)
    return alpha


def reads_of(rule: Rule) -> str:
    """What a rule reads: "nothing", "losses", "gramian" or "losses and gramian"."""
    return getattr(getattr(rule, "func", rule), "reads", "gramian")  # func: of a partial, which holds no other partial


class RuleNotDefined(ValueError):
    """A rule gives no α for these losses or gradients."""


@contextmanager
def _asked() -> Iterator[None]:
    """What the rule itself refuses in this block is told as RuleNotDefined."""
    try:
        yield
    except ValueError as error:
        raise RuleNotDefined(str(error)) from error


class _Step:
    """One call of `multitask_backward`, with at least one task."""

    def __init__(self, losses: list[Tensor], model: nn.Module, rule: Rule, present: list[int], count: int,
                 scaler: torch.amp.GradScaler | None):  # fmt: skip
        self.losses, self.model, self.rule = losses, model, rule
        self.present, self.count, self.scaler = present, count, scaler

    def scaled(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss) if self.scaler else loss

    def backward_once(self) -> Tensor:
        """The gradient of Σ αᵢLᵢ, for rules that do not read the gradients."""
        if reads_of(self.rule) == "nothing":
            with _asked():
                alpha = self.rule(torch.eye(self.count, dtype=torch.float64))[self.present]
        else:
            values = torch.stack(self.losses).detach()
            # One copy from the device.
            values = torch.cat([values, self.scaled(values.new_ones(1, dtype=torch.float32))]).cpu().double()
            alpha = self.weigh_losses(values[:-1], values[-1])
        alpha = distributed.first(alpha)
        with distributed.summed(self.model.parameters()):
            self.scaled(sum(weight * loss for weight, loss in zip(alpha.tolist(), self.losses))).backward()
        return alpha

    @_asked()
    def weigh_losses(self, values: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """α of a rule on losses; a rule with parameters also gets their gradient, times `scale`."""
        alpha = self.rule.alpha(values, self.present) if isinstance(self.rule, LossRule) else self.rule(values)
        if alpha.requires_grad:
            (scale * (alpha @ values + self.rule.penalty(self.present))).backward()
        return alpha.detach()

    def backward_each(self, wrt: str) -> Tensor:
        """For rules that read the gradients."""
        everything = list(self.model.shared_parameters())
        if not everything:
            raise CourseError(f"{type(self.model).__name__} shares no parameters: use equal, fixed or a rule on losses")
        shared, own = trained(everything), trained(self.model.parameters(), without=everything)
        z = self.representation(shared, wrt == "representation")
        through = z or (shared if wrt == "parameters" else [])
        rows, of_heads = self.of_tasks(through, own, bool(z) and are_apart(self.losses, z))
        for k, row in enumerate(rows):
            if z and wrt == "parameters":
                row = torch.autograd.grad(z, shared, row, retain_graph=k < len(rows) - 1, allow_unused=True)
            rows[k] = flat(shared if wrt == "parameters" else z, row)
            if wrt == "parameters":  # the gradient of the whole batch; the features of a part are its own
                rows[k] = distributed.total(rows[k])
        gramian, values, scale = self.to_host(rows, wrt)
        alpha = distributed.first(self.weigh_gradients(gramian / scale**2, values))
        with distributed.summed(own):
            for weight, found in zip(alpha.tolist(), of_heads):
                # The heads minimise Σ αᵢLᵢ where the rule is one on losses (GradNorm).
                add_gradients(own, found, weight if isinstance(self.rule, LossRule) else 1.0)
        combined = rows[0].mul_(alpha[0].item())
        for row, weight in zip(rows[1:], alpha[1:].tolist()):
            combined.add_(row, alpha=weight)
        if wrt == "parameters" and shared:
            add_gradients(shared, split(combined, shared))
        elif z:
            with distributed.summed(shared):
                torch.autograd.backward(z, split(combined, z))
        return alpha

    def representation(self, shared: list[nn.Parameter], needed: bool) -> list[Tensor]:
        """The tensors between the shared part and the heads; none where a loss reaches the shared part past them."""
        kept = self.model.representation() if hasattr(self.model, "representation") else ()
        z = [t for t in ((kept,) if isinstance(kept, Tensor) else kept) if t.requires_grad]
        graphs = [walk(loss, z) for loss in self.losses if z]
        ids = {id(p) for p in shared}
        past = any(id(getattr(node, "variable", None)) in ids for nodes, _ in graphs for node in nodes)
        if any(met for _, met in graphs) and not past:
            return z
        if needed and shared:
            raise CourseError("the losses must reach what is shared through model.representation(), what the heads "
                              "read in the last forward pass: keep penalties on shared parameters apart, and compile "
                              "model.trunk and model.heads, not the model; or choose wrt='parameters'")  # fmt: skip
        return []

    def of_tasks(self, through: list[Tensor], own: list[nn.Parameter], apart: bool) -> tuple[list, list]:
        """The gradients of each task with respect to `through`, and those of the heads."""
        rows, of_heads = [], []
        for k, loss in enumerate(self.losses):
            # Where the heads have nothing in common, the memory of each can go as soon as its gradient is there.
            keep = not apart and k < len(self.losses) - 1
            found = torch.autograd.grad(self.scaled(loss), through + own, retain_graph=keep, allow_unused=True)
            rows.append([torch.zeros_like(t) if g is None else g for t, g in zip(through, found)])
            of_heads.append(found[len(through) :])
        return rows, of_heads

    def to_host(self, rows: Sequence[Tensor], wrt: str) -> tuple[Tensor, Tensor, float]:
        """The Gramian, the losses, and the scale of the gradients, in one copy from the device."""
        gramian = distributed.total(gramian_of(rows)) if wrt == "representation" else gramian_of(rows)
        sent = [gramian.flatten(), torch.stack(self.losses).detach(), self.scaled(gramian.new_ones(1))]
        host = torch.cat([part.to(gramian) for part in sent]).cpu().double()
        return host[: len(rows) ** 2].view(len(rows), -1), host[len(rows) ** 2 : -1], host[-1].item()

    @_asked()
    def weigh_gradients(self, gramian: Tensor, values: Tensor) -> Tensor:
        """α of a rule that reads the Gramian; NaN if the scale of mixed precision was too high."""
        if self.scaler and not gramian.isfinite().all():
            return torch.full((len(gramian),), torch.nan, dtype=torch.float64)
        if not isinstance(self.rule, LossRule):
            alpha = torch.as_tensor(self.rule(gramian))
            if alpha.shape != gramian.shape[:1] or not alpha.isfinite().all():
                raise ValueError(f"a rule gives {len(gramian)} finite weights, and this one gave {alpha.tolist()}")
            return alpha
        alpha = self.weigh_losses(values)
        self.rule.observe(values, gramian, self.present)
        return alpha
