"""Steps of a reaction–diffusion equation, explicit, implicit and with a circulant operator.

    explicit   y⁺ = y + dt ( −Kᵀ K y + s(N(M y)) )        stable iff dt λmax(Kᵀ K) <= 2
    implicit   y⁺ = (I + dt Kᵀ K)⁻¹ ( y + dt s(N(M y)) )   stable for every dt

K is a depthwise 3x3 convolution, or (circulant) one 3x3 convolution of all channels whose blocks
repeat along the diagonals; M is a 1x1 convolution, N is BatchNorm without affine parameters, s is
ReLU. No convolution has a bias: the layer has 9 C + C² parameters in all three forms.

Kᵀ K of the explicit step stays two 3x3 convolutions: one symmetric 5x5 measured faster on small
maps, but it is another operator at the edge of a zero-padded map, where Kᵀ sees nothing beyond it.

Low-Cost Parameterizations of Deep Convolutional Neural Networks, ICLR 2019 submission.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.layers.blocks import same_conv
from condense.layers.options import check_flag, check_number, check_whole
from condense.layers.remembered import Remembered
from condense.layers.spectra import filtered, largest_squared, spectrum, squared
from condense.layers.tables import LAYERS

_TINY = 1e-12


class TimeStep(nn.Module):
    """dt > 0: a number, or a parameter that starts there and stays positive.

    Args:
        start: dt.
        learn: Whether training changes it.

    Raises:
        ConfigError: If `start` is not a number > 0.
    """

    def __init__(self, start: float, *, learn: bool) -> None:
        super().__init__()
        check_number("dt", start)
        check_flag("learn_dt", learn)
        self.start = start
        self.log = nn.Parameter(torch.tensor(math.log(start))) if learn else None

    def forward(self, largest: Tensor | None = None) -> Tensor | float:
        """dt, cut down to 2 / `largest` if that is given and smaller."""
        dt = self.start if self.log is None else self.log.exp()
        return dt if largest is None else torch.clamp(2 / largest.clamp_min(_TINY), max=dt)


class Reaction(nn.Module):
    """s(N(M y)).

    Args:
        channels: C.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = same_conv(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.relu = nn.ReLU()

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.relu(self.norm(self.mix(y)))
        return out


@LAYERS.register("rd-explicit")
class ExplicitReactionDiffusion(nn.Module):
    """One explicit step with a zero-padded depthwise operator.

    dt λmax <= 2 by construction: where the operator has grown too large for it, dt is cut down to
    what the operator's spectrum allows.

    Args:
        channels: C.
        dt: Time step.
        learn_dt: Whether training changes it.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ConfigError: If an option has a value that it cannot take.
    """

    def __init__(self, channels: int, *, dt: float = 0.5, learn_dt: bool = False) -> None:
        super().__init__()
        check_whole("channels", channels)
        self.dt = TimeStep(dt, learn=learn_dt)
        self.diffusion = same_conv(channels, channels, 3, groups=channels)
        self.reaction = Reaction(channels)
        self.remembered = Remembered()

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = y + self.dt(self._largest()) * (self.reaction(y) - self.diffused(y))
        return out

    @torch.no_grad()
    def largest_dt(self) -> float:
        """2 / λmax, beyond which a step would be unstable: `forward` cuts dt down to it."""
        return (2 / self._largest().clamp_min(_TINY)).item()

    def diffused(self, y: Tensor) -> Tensor:
        """Kᵀ K y.

        Shape:
            (N, C, H, W) -> (N, C, H, W).
        """
        k = self.diffusion.weight
        return F.conv_transpose2d(self.diffusion(y), k, padding=1, groups=k.shape[0])

    def _largest(self) -> Tensor:
        weight = self.diffusion.weight[:, 0]
        return self.remembered(lambda: largest_squared(weight), weight)


@LAYERS.register("rd-implicit")
class ImplicitReactionDiffusion(nn.Module):
    """One implicit step with a periodic depthwise operator: couples all pixels of a channel.

    Solved exactly, mode by mode: F⁻¹[ F(rhs) / (1 + dt |K̂|²) ].

    Args:
        channels: C.
        dt: Time step; stable for every one.
        learn_dt: Whether training changes it.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ConfigError: If an option has a value that it cannot take.
    """

    def __init__(self, channels: int, *, dt: float = 0.5, learn_dt: bool = False) -> None:
        super().__init__()
        check_whole("channels", channels)
        self.dt = TimeStep(dt, learn=learn_dt)
        self.diffusion = same_conv(channels, channels, 3, groups=channels)
        self.reaction = Reaction(channels)
        self.remembered = Remembered()

    def forward(self, y: Tensor) -> Tensor:
        dt, weight, size = self.dt(), self.diffusion.weight[:, 0], y.shape[2:]
        factors = self.remembered(partial(self.factors, *size), weight, dt, *size)
        return filtered(y + dt * self.reaction(y), factors)

    def factors(self, height: int, width: int) -> Tensor:
        """1 / (1 + dt |K̂|²) on a map of that size.

        Shape:
            (C, height, width // 2 + 1): as `torch.fft.rfft2` orders them.
        """
        factors: Tensor = 1 / (
            1 + self.dt() * squared(spectrum(self.diffusion.weight[:, 0], height, width))
        )
        return factors


@LAYERS.register("rd-circulant")
class CirculantReactionDiffusion(nn.Module):
    """One explicit step with a periodic operator that couples all channels.

    The block from channel j to channel i is the stencil θ[(j − i) mod C], so that K is diagonal in
    the Fourier basis over channels, rows and columns: Kᵀ K y = F3⁻¹( |S|² F3 y ).
    dt λmax <= 2 by construction, as λmax is the largest |S|²; it grows with C, so the
    stencils start smaller by a factor √C.

    Args:
        channels: C.
        dt: Time step.
        learn_dt: Whether training changes it.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ConfigError: If an option has a value that it cannot take.
    """

    def __init__(self, channels: int, *, dt: float = 0.5, learn_dt: bool = False) -> None:
        super().__init__()
        check_whole("channels", channels)
        self.dt = TimeStep(dt, learn=learn_dt)
        self.stencils = nn.Parameter(torch.empty(channels, 3, 3))
        bound = 1 / math.sqrt(9 * channels)
        nn.init.uniform_(self.stencils, -bound, bound)
        self.reaction = Reaction(channels)
        self.remembered = Remembered()

    def forward(self, y: Tensor) -> Tensor:
        eigenvalues = self._remembered_eigenvalues(*y.shape[2:])
        out: Tensor = y + self.dt(eigenvalues.amax((0, 1, 2))) * (
            self.reaction(y) - self.diffused(y, eigenvalues)
        )
        return out

    @torch.no_grad()
    def largest_dt(self, height: int = 32, width: int = 32) -> float:
        """2 / λmax on a map of that size (which matters little): `forward` cuts dt down to it."""
        return (2 / self._remembered_eigenvalues(height, width).amax().clamp_min(_TINY)).item()

    def eigenvalues(self, height: int, width: int) -> Tensor:
        """|S|², the eigenvalues of Kᵀ K on a map of that size.

        Shape:
            (C, height, width // 2 + 1): as `torch.fft.rfftn` over channels, rows, columns orders.
        """
        # Both K's correlate: e^(+i…) along channels, as `spectrum` has it along rows and columns.
        planes = spectrum(self.stencils, height, width)
        return squared(torch.fft.ifft(planes, dim=0, norm="forward"))

    def diffused(self, y: Tensor, eigenvalues: Tensor) -> Tensor:
        """Kᵀ K y.

        Shape:
            (N, C, H, W) -> (N, C, H, W).
        """
        return filtered(y, eigenvalues, axes=(1, 2, 3))

    def _remembered_eigenvalues(self, height: int, width: int) -> Tensor:
        compute = partial(self.eigenvalues, height, width)
        return self.remembered(compute, self.stencils, height, width)
