"""Layers in the form that ONNX Runtime runs fastest on a CPU.

It keeps maps in blocks of channels from one convolution to the next. Global layers: the BatchNorms
of the coefficients, dt/dx and dt/dx² go into the weights of the convolutions, since s(a x) = a s(x)
for s = ReLU and a > 0; `lean_steps` has the rest. Shortcuts that take every second pixel and pad
channels: `Slice` and `Pad` would unpack the blocks, a convolution does not. Filters in Fourier
space: see `products`. How these forms compare with the others that were measured is in
docs/performance.md and docs/layers.md.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.export.lean_steps import LEAN_STEPS, Maps, Place
from condense.export.products import lowered_circulant, lowered_implicit
from condense.export.stencils import Pointwise
from condense.layers import GlobalLayer
from condense.layers.blocks import is_depthwise3x3
from condense.layers.reaction_diffusion import (
    CirculantReactionDiffusion,
    ImplicitReactionDiffusion,
)
from condense.models.cifar_resnet import PaddedShortcut

_FILTERING: dict[type[nn.Module], Callable[[Any, int, int], nn.Module]] = {
    ImplicitReactionDiffusion: lowered_implicit,
    CirculantReactionDiffusion: lowered_circulant,
}
"""What filters in Fourier space, and its lean form for maps of a height and width."""


@torch.no_grad()
def lowered(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy in which every layer that has a lean form has given way to it.

    Args:
        model: In eval mode; left as it was.
        images: Of the size that the copy is for.
    """
    copy = deepcopy(model)
    sizes = _map_sizes(copy, images)
    lean = _lean_form(copy, sizes)
    if lean is not None:
        return lean
    for parent in list(copy.modules()):
        for name, child in parent.named_children():
            lean = _lean_form(child, sizes)
            if lean is not None:
                setattr(parent, name, lean)
    return copy


def _map_sizes(model: nn.Module, images: Tensor) -> dict[nn.Module, set[tuple[int, int]]]:
    """Heights and widths of the maps that each layer with a spectrum is given."""
    sizes: dict[nn.Module, set[tuple[int, int]]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes.setdefault(layer, set()).add((inputs[0].shape[2], inputs[0].shape[3]))

    layers = [layer for layer in model.modules() if type(layer) in _FILTERING]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    if hooks:
        model(images)
    for hook in hooks:
        hook.remove()
    return sizes


def _lean_form(layer: nn.Module, sizes: dict[nn.Module, set[tuple[int, int]]]) -> nn.Module | None:
    if can_be_lowered(layer):
        return LoweredLayer(cast(GlobalLayer, layer))
    if type(layer) is PaddedShortcut:
        return _projection(layer)
    if len(sizes.get(layer, ())) == 1:
        ((height, width),) = sizes[layer]
        return _FILTERING[type(layer)](layer, height, width).eval()
    return None


def can_be_lowered(layer: nn.Module) -> bool:
    """Whether it is a Global layer in eval mode with ReLU and depthwise 3x3 coefficients.

    Any other is exported as it reads. So is a conservative one with constant D.
    """
    if type(layer) is not GlobalLayer or layer.training or layer.scheme not in LEAN_STEPS:
        return False
    maps = layer.coefficients
    if not isinstance(layer.activation, nn.ReLU) or maps.options.product:
        return False
    if maps.options.constant_diffusion is not None:
        return is_depthwise3x3(maps.conv_u) and layer.scheme == "reference"
    return is_depthwise3x3(maps.conv_u) and is_depthwise3x3(maps.conv_diff_x)


class LoweredLayer(nn.Module):
    """What a Global layer computes in eval mode.

    Args:
        layer: For which `can_be_lowered` holds; copied.

    Shape:
        As the layer's.
    """

    def __init__(self, layer: GlobalLayer) -> None:
        super().__init__()
        self.init = deepcopy(layer.init)
        self.replaces_source = layer.replaces_source
        self.is_residual = layer.is_residual
        self.starts_at_rest = layer.before == "h"
        self.takes_velocity_from_h = layer.coefficients.options.velocity_from == "h"
        self.coefficients = _Coefficients(layer)
        self.steps = nn.ModuleList(_steps(layer))
        self.bn_out = None if len(self.steps) == 1 else Pointwise(*_affine(layer.bn_out))
        self.to(layer.bn_out.running_mean)
        self.eval()

    def forward(self, x: Tensor, s1: Tensor | None = None) -> Tensor:
        h, f = (self.init(x), x) if s1 is None else (self.init(x, s1), s1)
        f = h if self.replaces_source else f
        maps = self.coefficients(h, h if self.takes_velocity_from_h else f)
        before = h if self.starts_at_rest else f
        for step in self.steps:
            before, h = h, step(before, h, f, maps)
        out = h if self.bn_out is None else F.relu(self.bn_out(h))
        return out + f if self.is_residual else out


class _Coefficients(nn.Module):
    """The coefficients with everything that is constant in their weights."""

    def __init__(self, layer: GlobalLayer) -> None:
        super().__init__()
        maps, dt, grid = layer.coefficients, layer.dt, layer.grid
        factor = LEAN_STEPS[layer.scheme].diffusion_factor * dt
        self.ax = _folded(maps.conv_u, maps.bn_u, dt / grid.dx)
        self.ay = _folded(maps.conv_v, maps.bn_v, dt / grid.dy)
        self.is_constant = maps.options.constant_diffusion is not None
        if not self.is_constant:
            self.bx = _folded(maps.conv_diff_x, maps.bn_diff_x, factor / grid.dx**2)
            self.by = _folded(maps.conv_diff_y, maps.bn_diff_y, factor / grid.dy**2)

    def forward(self, h: Tensor, source: Tensor) -> Maps:
        velocity = F.relu(self.ax(source)), F.relu(self.ay(source))
        if self.is_constant:
            return Maps(*velocity, None, None)
        return Maps(*velocity, F.relu(self.bx(h)), F.relu(self.by(h)))


def _steps(layer: GlobalLayer) -> list[nn.Module]:
    """One module a step; those after the first are one and the same."""
    if layer.steps == 0:
        return []
    scale, shift = _affine(layer.bn_out)
    h_is_f = isinstance(layer.init, nn.Identity) or layer.replaces_source
    is_last = layer.steps == 1
    one, zero = torch.ones_like(scale), torch.zeros_like(scale)
    first = Place(
        h_is_before=h_is_f or layer.before == "h",
        h_is_f=h_is_f,
        is_last=is_last,
        scale=scale if is_last else one,
        shift=shift if is_last else zero,
    )
    later = Place(h_is_before=False, h_is_f=False, is_last=False, scale=one, shift=zero)
    kind = LEAN_STEPS[layer.scheme]
    again = kind(layer, later)
    return [kind(layer, first), *[again] * (layer.steps - 1)]


def _affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A BatchNorm as scale and shift, (C,), in double precision."""
    mean, variance = cast(Tensor, bn.running_mean), cast(Tensor, bn.running_var)
    scale = bn.weight.detach().double() / (variance.double() + bn.eps).sqrt()
    return scale, bn.bias.detach().double() - scale * mean.double()


def _folded(conv: nn.Module, bn: nn.BatchNorm2d, factor: float) -> nn.Conv2d:
    """One convolution that computes factor BN(conv(x)); in double precision."""
    result = deepcopy(cast(nn.Conv2d, conv)).double()
    scale, shift = _affine(bn)
    if result.bias is not None:
        shift = shift + scale * result.bias.detach()
    result.weight = nn.Parameter(factor * scale[:, None, None, None] * result.weight.detach())
    result.bias = nn.Parameter(factor * shift)
    return result


def _projection(shortcut: PaddedShortcut) -> nn.Conv2d:
    """A padded shortcut as a 1x1 convolution, whose weights are ones and zeros."""
    before, after = shortcut.before, shortcut.after
    result = nn.Conv2d(before, after, 1, stride=shortcut.stride, bias=False)
    comes_from = torch.arange(after)[:, None] - shortcut.below
    weight = (comes_from == torch.arange(before)).to(result.weight)
    result.weight = nn.Parameter(weight[:, :, None, None])
    return result
