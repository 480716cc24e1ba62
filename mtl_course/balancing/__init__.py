"""Where the weights α of the tasks come from, and the backward pass that applies them."""

from mtl_course.balancing.backward import Rule, RuleNotDefined, gramian_of, multitask_backward, reads_of

from mtl_course.balancing.gradient_rules import (  # isort: skip
    aligned, cagrad, dual_projection, equal, fairgrad, fixed, imtl_g, mgda, nash, pcgrad, upgrad,
)  # fmt: skip
from mtl_course.balancing.learned_rules import Famo, GradNorm, Uncertainty
from mtl_course.balancing.loss_rules import DynamicAverage, LossRule, RandomWeights, SmoothTchebycheff, geometric_mean
from mtl_course.balancing.registry import FURTHER_RULES, GRADIENT_RULES, gradient_rule
from mtl_course.spec import choose

# Records have their arms in this order: add at the end.
LOSS_RULES = {"uncertainty": Uncertainty, "dynamic_average": DynamicAverage, "grad_norm": GradNorm,
              "random_weights": RandomWeights, "geometric_mean": geometric_mean,
              "smooth_tchebycheff": SmoothTchebycheff, "famo": Famo}  # fmt: skip


def make(text: str, count: int) -> Rule:
    """The rule of a name with options, as on the command line.

    Args:
        text: such as "pcgrad" or "cagrad:c=0.4".
        count: the number of tasks.

    Raises:
        CourseError: on an unknown name or option, with the nearest right one.
    """
    _, made = choose("rule", text, GRADIENT_RULES | LOSS_RULES | FURTHER_RULES)
    return made(count) if isinstance(getattr(made, "func", made), type) else made


__all__ = ["GRADIENT_RULES", "LOSS_RULES", "DynamicAverage", "Famo", "GradNorm", "LossRule", "RandomWeights", "Rule",
           "FURTHER_RULES", "RuleNotDefined", "SmoothTchebycheff", "Uncertainty", "aligned", "cagrad",
           "dual_projection", "equal", "fairgrad", "fixed", "geometric_mean", "gradient_rule", "gramian_of", "imtl_g",
           "make", "mgda", "multitask_backward", "nash", "pcgrad", "reads_of", "upgrad"]  # fmt: skip
