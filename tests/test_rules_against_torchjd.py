"""Agreement with torchjd, an independent library, on random Jacobians, within the tolerances of its own solvers."""

import numpy as np
import pytest
import torch
from torchjd import aggregation as agg
from torchjd import scalarization as scal
from torchjd.linalg import QuadprogProjector

from mtl_course.balancing import (
    DynamicAverage,
    Famo,
    SmoothTchebycheff,
    Uncertainty,
    aligned,
    cagrad,
    dual_projection,
    equal,
    fairgrad,
    geometric_mean,
    imtl_g,
    mgda,
    nash,
    pcgrad,
    upgrad,
)


def jacobian(seed, tasks):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((tasks, 10)) * 10 ** rng.uniform(-0.5, 0.5, (tasks, 1))
    return torch.as_tensor(matrix)


JACOBIANS = [jacobian(seed, tasks) for seed in range(6) for tasks in (2, 3, 5)]


def needs(*modules):
    for module in modules:
        pytest.importorskip(module, reason=f"torchjd solves this rule with the optional {module}")


def distance(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


def compare(rule, aggregator, tolerance, matrices=JACOBIANS, up_to_length=False):
    for matrix in matrices:
        ours = rule(matrix @ matrix.T) @ matrix
        theirs = aggregator(matrix) if isinstance(aggregator, torch.nn.Module) else aggregator(len(matrix))(matrix)
        if up_to_length:
            ours, theirs = ours / ours.norm(), theirs / theirs.norm()
        assert distance(ours, theirs) < tolerance, matrix


def test_equal_is_their_sum():
    compare(equal, agg.Sum(), 1e-14)


def test_mgda():
    # Frank-Wolfe creeps near a face of the simplex: its error in ‖d‖² falls like 1/iterations, that in d like the root.
    frank_wolfe = agg.MGDA(epsilon=1e-12, max_iters=3000)
    compare(mgda, frank_wolfe, 2e-2)
    for matrix in JACOBIANS:
        assert (mgda(matrix @ matrix.T) @ matrix).norm() <= frank_wolfe(matrix).norm() * (1 + 1e-12)


def test_upgrad_and_dual_projection():
    needs("qpsolvers", "quadprog")
    # They add reg_eps to the diagonal of G/trace(G), 1e-4 by default, so that is the error; 1e-12 here.
    projector = QuadprogProjector(norm_eps=0.0, reg_eps=1e-12)
    compare(upgrad, agg.UPGrad(projector=projector), 1e-8)
    compare(dual_projection, agg.DualProj(projector=projector), 1e-8)


@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
def test_cagrad(c):
    needs("cvxpy", "clarabel")
    # The cone solver stops at a gap of 1e-8, so that w, and with it d, is right to about the root of that.
    compare(lambda g: cagrad(g, c=c), agg.CAGrad(c=c, norm_eps=1e-9), 1e-3)


def test_imtl_g():
    compare(imtl_g, agg.IMTLG(), 1e-9)


def test_aligned():
    compare(aligned, agg.AlignedMTL(), 1e-9)


def test_fairgrad():
    needs("scipy")
    # least_squares stops at a relative change of 1e-8 of the sum of squares.
    for a in (1.0, 2.0):
        compare(lambda g, a=a: fairgrad(g, a=a), agg.FairGrad(alpha=a), 1e-4)


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP")
def test_nash():
    needs("cvxpy", "ecos")
    # They solve (G/‖G‖)α = 1/α, whose d is longer by the root of ‖G‖, and stop at a residual of 1e-3.
    matrices = [m for m in JACOBIANS if len(m) < 5]
    compare(nash, lambda k: agg.NashMTL(k, max_norm=0.0, optim_niter=200), 1e-2, matrices, up_to_length=True)


def test_pcgrad_for_two_tasks():
    compare(pcgrad, agg.PCGrad(), 1e-12, [m for m in JACOBIANS if len(m) == 2])


def test_pcgrad_with_the_same_orders():
    for matrix in JACOBIANS:
        generator = torch.Generator().manual_seed(7)
        ours = pcgrad(matrix @ matrix.T, generator=generator) @ matrix
        torch.manual_seed(7)  # theirs draws from the global generator, a permutation a task as ours does
        assert distance(ours, agg.PCGrad()(matrix)) < 1e-12


# --- rules on losses


def gradients(scalarizer, losses):
    """α of a function of the losses: its derivative."""
    values = losses.clone().requires_grad_()
    return torch.autograd.grad(scalarizer(values), values)[0]


LOSSES = [torch.as_tensor(np.random.default_rng(seed).uniform(0.05, 4, 3)) for seed in range(6)]


def test_geometric_mean():
    for losses in LOSSES:
        torch.testing.assert_close(geometric_mean(losses), gradients(scal.GeometricMean(), losses))


def test_smooth_tchebycheff():
    preference, ideal = [0.2, 0.5, 0.3], [0.01, 0.0, 0.02]
    for losses in LOSSES:
        for mu in (0.05, 1.0):
            theirs = scal.STCH(mu, torch.tensor(preference).double(), torch.tensor(ideal).double())
            ours = SmoothTchebycheff(3, mu, preference, ideal)
            torch.testing.assert_close(ours.alpha(losses), gradients(theirs, losses), rtol=1e-6, atol=1e-8)


def test_uncertainty_value_and_both_gradients():
    ours, theirs = Uncertainty(3), scal.UW(3).double()
    with torch.no_grad():
        ours.s.copy_(torch.tensor([0.3, -0.5, 1.0]))
        theirs.log_var.copy_(ours.s)
    for losses in LOSSES:
        alpha = ours.alpha(losses)
        value = alpha @ losses + ours.penalty(range(3))
        torch.testing.assert_close(value, theirs(losses))
        torch.testing.assert_close(alpha, gradients(theirs, losses))
        torch.testing.assert_close(
            torch.autograd.grad(value, ours.s)[0], torch.autograd.grad(theirs(losses), theirs.log_var)[0]
        )


def test_dynamic_average_over_epochs():
    ours, theirs = DynamicAverage(3), scal.DWA(2.0)
    for losses in LOSSES * 2:
        for batch in (losses, 0.7 * losses.flip(0)):
            torch.testing.assert_close(ours.alpha(batch), gradients(theirs, batch))
        ours.after_epoch()
        theirs.step()


def test_famo_over_steps():
    ours, theirs = Famo(3), scal.FAMO(3).double()
    for before, after in zip(LOSSES, LOSSES[1:]):
        # Theirs adds 1e-8 to every loss.
        torch.testing.assert_close(ours.alpha(before), gradients(theirs, before), rtol=1e-5, atol=1e-7)
        ours.after_step(after)
        theirs.update(after)
        torch.testing.assert_close(ours.w, theirs._w.detach(), rtol=1e-4, atol=1e-6)
