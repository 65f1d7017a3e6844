"""PDE Global layer: K time steps of a learnt advection–diffusion equation.

    ∂H/∂t = ∂(Dx ∂H/∂x)/∂x + ∂(Dy ∂H/∂y)/∂y − ∂(u H)/∂x − ∂(v H)/∂y + f,    out = s(BN(H(K)))

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers import fused
from condense.layers.authors_names import to_authors
from condense.layers.coefficients import CoefficientMaps, CoefficientOptions
from condense.layers.eigenbases import check_solvable
from condense.layers.options import (
    BlockSpec,
    build_block,
    check_choice,
    check_flag,
    check_number,
    check_whole,
)
from condense.layers.schemes import SCHEMES, Coefficients, Scheme, evolve
from condense.layers.stability import Stability, evaluating, is_beyond_bound, rms
from condense.layers.stencil import Boundary, Grid
from condense.layers.tables import ACTIVATIONS, LAYERS


@LAYERS.register("global")
class GlobalLayer(nn.Module):
    """Lets every pixel see K + 1 pixels far, for the weights of four depthwise convolutions.

    With `scheme="implicit"` it sees the whole map, for the same weights.

    Every option is a plain value, so that a plan can hold it.

    Args:
        channels: C. The layer keeps channels and resolution, unless its init block does not.
        steps: K, the number of time steps; with 0 the state is only normalised.
        dt: Time step, in the unit in which velocity is neighbours per time.
        scheme: `reference` is the authors' code with its faults (see `schemes.reference`);
            `conservative` is the equation as their paper states it; `implicit` solves its diffusion
            for the whole map in every step, so that one step couples all pixels of a channel.
        boundary: What h, u, v and D are beyond the edge of the map. The convolutions that make the
            coefficients are zero-padded in any case.
        dx: Pixels from one neighbour to the next along the rows, and the distance between them.
        dy: The same along the columns.
        coefficients: Where u, v, Dx and Dy come from: `CoefficientOptions`, or the same as a
            mapping.
        coefficient_eps: Of the coefficients' BatchNorms; C by default, as in the authors' code. It
            looks like a slip there, but it keeps the scheme stable: with 1e-5, in one case, the rms
            of H at K=10 grew from 4 to 2585.
        init: Block of `BLOCKS` that makes h(0) of f: its name, or a mapping with `block` and its
            options.
        replace_source: Whether h(0) takes the place of f; by default, where the init block changes
            channels or resolution.
        activation: s, by its name.
        before: h(−1): the source `f`, or `h`, which starts at rest.
        source: Whether f drives the equation.
        residual: Add f to the output.

    Shape:
        (N, C, H, W) -> (N, C, H, W). With a DARTS cell as init block: two maps, s0 and s1 = f.

    Raises:
        ConfigError: If an option has a value that it cannot take.

    Example:
        >>> GlobalLayer(16, steps=2)(torch.ones(1, 16, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(  # noqa: PLR0913 - one keyword per option: plans hold them flat
        self,
        channels: int,
        steps: int = 1,
        dt: float = 0.2,
        scheme: Scheme = "reference",
        boundary: Boundary = "periodic",
        *,
        dx: int = 1,
        dy: int = 1,
        coefficients: CoefficientOptions | Mapping[str, Any] | None = None,
        coefficient_eps: float | None = None,
        init: BlockSpec = "identity",
        replace_source: bool | None = None,
        activation: str = "relu",
        before: Literal["f", "h"] = "f",
        source: bool = True,
        residual: bool = False,
    ) -> None:
        super().__init__()
        check_whole("channels", channels)
        _check(steps, dt, scheme, boundary, dx, dy)
        check_choice("before", before, ("f", "h"))
        check_flag("source", source)
        check_flag("residual", residual)
        check_flag("replace_source", replace_source is not None and replace_source)
        eps = channels if coefficient_eps is None else coefficient_eps
        check_number("coefficient_eps", eps)
        self.channels = channels
        self.steps = steps
        self.dt = dt
        self.scheme: Scheme = scheme
        self.grid = Grid(shift_x=dx, shift_y=dy, dx=dx, dy=dy, boundary=boundary)
        if scheme == "implicit":
            check_solvable(self.grid)
        self.before = before
        self.has_source = source
        self.is_residual = residual
        self.init = build_block(init, channels)
        keeps_shape = getattr(self.init, "keeps_shape", True)
        self.replaces_source = not keeps_shape if replace_source is None else replace_source
        self.activation = ACTIVATIONS[activation]()
        self.coefficients = CoefficientMaps(
            channels, _read(coefficients), eps=float(eps), activation=ACTIVATIONS[activation]()
        )
        self.bn_out = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, s1: Tensor | None = None) -> Tensor:
        h, f = self.initial_state(x, s1)
        if fused.kernel_for(self, h, f) == "readable":
            c = self.coefficients(h, f)
            out: Tensor = self.activation(self.bn_out(self.evolve(h, f, c)))
        else:
            out = fused.forward(self, h, f)
        return out + f if self.is_residual else out

    def initial_state(self, x: Tensor, s1: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """h(0) and the source f.

        Shape:
            (N, C, H, W) -> two of (N, C, H, W).
        """
        h, f = (self.init(x), x) if s1 is None else (self.init(x, s1), s1)
        return h, h if self.replaces_source else f

    def evolve(self, h: Tensor, f: Tensor, c: Coefficients) -> Tensor:
        """H after K steps, in the readable form.

        Shape:
            (N, C, H, W) -> (N, C, H, W).
        """
        return evolve(
            h,
            f if self.has_source else None,
            c,
            before=h if self.before == "h" else f,
            dt=self.dt,
            steps=self.steps,
            grid=self.grid,
            scheme=self.scheme,
        )

    def stability(self, x: Tensor, s1: Tensor | None = None) -> Stability:
        """How close to instability the layer runs on a batch, in eval mode.

        A diagnosis: `forward` never branches on it.
        """
        with evaluating(self):
            h, f = self.initial_state(x, s1)
            c: Coefficients = self.coefficients(h, f)
            beyond = is_beyond_bound(c, dt=self.dt, grid=self.grid, scheme=self.scheme)
            growth = rms(self.evolve(h, f, c)) / rms(h).clamp_min(torch.finfo(h.dtype).tiny)
        return Stability(beyond=beyond.double().mean().item(), growth=growth.item())

    def authors_state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by the names of the authors' code.

        They are the layer's own tensors, not copies, so that `.grad` can be read off them.
        """
        return to_authors(self.state_dict(keep_vars=True))

    def extra_repr(self) -> str:
        grid = self.grid
        return (
            f"{self.channels}, steps={self.steps}, dt={self.dt}, scheme={self.scheme!r}, "
            f"boundary={grid.boundary!r}, dx={grid.shift_x}, dy={grid.shift_y}"
        )


def _check(  # noqa: PLR0913, PLR0917 - the equation's options, in their order
    steps: object, dt: object, scheme: object, boundary: object, dx: object, dy: object
) -> None:
    check_whole("steps", steps, least=0)
    check_number("dt", dt)
    check_choice("scheme", scheme, SCHEMES)
    check_choice("boundary", boundary, get_args(Boundary))
    check_whole("dx", dx)
    check_whole("dy", dy)


def _read(options: CoefficientOptions | Mapping[str, Any] | None) -> CoefficientOptions:
    if options is None:
        return CoefficientOptions()
    if isinstance(options, CoefficientOptions):
        return options
    if not isinstance(options, Mapping):
        raise ConfigError(f"coefficients must be a mapping of options, got {options!r}")
    return CoefficientOptions.from_dict(options)
