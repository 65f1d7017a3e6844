"""z* = f(z*, x): solved by iteration, differentiated by the implicit function theorem.

    ∂L/∂θ = gᵀ ∂f(z*, x)/∂θ,    where    g = J_fᵀ g + ∂L/∂z*

The equation for g is solved as the one for z* is; one evaluation of f is all that is remembered.

S. Bai, J. Z. Kolter, V. Koltun: Deep Equilibrium Models, NeurIPS 2019.
"""

import logging
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from condense.errors import CondenseError, ConfigError

FixedPointSolver = Literal["anderson", "picard"]
RESIDUAL = 1e-3

logger = logging.getLogger(__name__)


class FixedPoint(nn.Module):
    """The fixed point of f(·, x), for x as its input.

    Args:
        f: Called with a list of tensors and x; gives such a list. `f.start(x)` is the first.
        solver: `anderson`: Anderson acceleration, by torchdeq, until the residual is small; or
            `picard`: f applied so many times and differentiated as it stands, which ONNX and a
            count can follow.
        evaluations: Of f in eval mode: at most for `anderson`, exactly for `picard`.
        training_evaluations: In training: at most, for z* and for g each; `picard` takes
            `evaluations`.
        tolerance: ‖f(z) - z‖ / ‖f(z)‖ of each image that `anderson` aims at.

    Shape:
        (N, C, H, W) -> a list of what f gives.

    Raises:
        ConfigError: If an option has a value that it cannot take.
        CondenseError: In `forward`, if torchdeq is needed and missing, or if `anderson` is to be
            exported.
    """

    def __init__(
        self,
        f: nn.Module,
        *,
        solver: FixedPointSolver = "anderson",
        evaluations: int = 50,
        training_evaluations: int = 18,
        tolerance: float = RESIDUAL,
    ) -> None:
        super().__init__()
        if solver not in get_args(FixedPointSolver):
            known = " or ".join(get_args(FixedPointSolver))
            raise ConfigError(f"solver must be {known}, got {solver!r}")
        counts = {"evaluations": evaluations, "training_evaluations": training_evaluations}
        for name, count in counts.items():
            if count < 3:
                raise ConfigError(f"{name} must be a whole number >= 3, got {count}")
        self.solver = solver
        self.evaluations = evaluations
        self.training_evaluations = training_evaluations
        self.tolerance = tolerance
        self.f = f

    def forward(self, x: Tensor) -> list[Tensor]:
        z: list[Tensor] = self.f.start(x)  # type: ignore[operator]
        if self.solver == "anderson":
            return self._solve(z, x)
        for _ in range(self.evaluations):
            z = self.f(z, x)
        return z

    def _solve(self, z: list[Tensor], x: Tensor) -> list[Tensor]:
        most = self.training_evaluations if self.training else self.evaluations
        goal = self.tolerance / 2  # the residual is known of the last z but one
        # torchdeq's Anderson adds 1e-4 to squares of residuals: far too much for small gradients.
        deq = _get_deq()(
            ift=True, f_solver="anderson", b_solver="broyden", f_max_iter=most, b_max_iter=most,
            f_tol=goal, b_tol=goal, f_stop_mode="rel", b_stop_mode="rel",
        )  # fmt: skip
        deq.train(torch.is_grad_enabled())  # in its eval mode it gives no gradients
        (found,), info = deq(lambda *z: self.f(z, x), z)
        worst = float(info["rel_lowest"].max())
        if not self.training and worst > self.tolerance:
            logger.warning(
                "the fixed point is %.2g away after %d evaluations, %.0e is wanted; "
                "more evaluations may find it",
                *(worst, most, self.tolerance),
            )
        return list(found)


def _get_deq() -> Callable[..., Any]:
    if torch.compiler.is_exporting():
        raise CondenseError(
            "the solver anderson stops by the data, which a graph cannot",
            hint="make the network with solver='picard' (--arch-arg solver=picard); "
            "the weights fit both",
        )
    try:
        from torchdeq import get_deq  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise CondenseError(
            "torchdeq is not installed; the solver anderson needs it",
            hint="pip install -e '.[baselines]', or use the solver picard",
        ) from error
    found: Callable[..., Any] = get_deq
    return found
