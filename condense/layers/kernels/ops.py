"""The fused kernels as torch operators, differentiable, known to torch.compile and torch.export.

`global_layer` is a whole layer in eval mode without a gradient. Where one is wanted, `evolve` gives
h(K), the coefficients' BatchNorms folded into weight and bias by ordinary torch arithmetic on
(C, 4) tensors. Training on a CPU has an operator of its own: `kernels.training`.

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
"""

from typing import Any

import torch
from torch import Tensor

from condense.layers.kernels.memory import as_array, as_maps, as_tensor, memory_format

torch.library.define(
    "condense::global_layer",
    "(Tensor h, Tensor? f, Tensor[] parameters, float[] constants, bool has_bias,"
    " float coefficient_eps, float out_eps, int steps, float dt, int dx, int dy, str scheme,"
    " str boundary, bool source, bool at_rest) -> Tensor",
    tags=(torch.Tag.flexible_layout,),  # inductor need not copy what lies channels_last
)


def global_layer(
    h: Tensor,
    f: Tensor | None,
    parameters: list[Tensor],
    constants: list[float],
    has_bias: bool,
    coefficient_eps: float,
    out_eps: float,
    steps: int,
    dt: float,
    dx: int,
    dy: int,
    scheme: str,
    boundary: str,
    source: bool,
    at_rest: bool,
) -> Tensor:
    """A whole Global layer in eval mode, relu(BN(h(K))); without a gradient.

    The operator of this name is for graphs; on the CPU it is this function, which can be called
    without the detour through torch's dispatcher.

    Args:
        h: h(0).
        f: The source and h(-1); None if it is h.
        parameters: One after the other, for each of u, v and, where they are learnt, Dx, Dy: the
            3x3 weights, the bias if there is one, the BatchNorm's weight, bias, mean, variance; at
            the end those of the BatchNorm of h(K).
        constants: Dx and Dy where they are numbers; else empty.
        has_bias: Whether the convolutions have biases.
        coefficient_eps: Of the coefficients' BatchNorms.
        out_eps: Of the BatchNorm of h(K).
        steps: K.
        dt: Time step.
        dx: Shift and spacing along the rows.
        dy: The same along the columns.
        scheme: As in `condense.layers.schemes`.
        boundary: As in `condense.layers.stencil`.
        source: Whether f drives the equation.
        at_rest: Whether h(-1) is h(0).

    Shape:
        (N, C, H, W) -> (N, C, H, W), in memory as `memory_format` says.
    """
    from condense.layers.kernels import inference  # noqa: PLC0415 - numba takes a second

    of_norms = (constants, has_bias, coefficient_eps, out_eps)
    numbers = (steps, dt, dx, dy, scheme, boundary, source, at_rest)
    return inference.global_layer(h, f, parameters, *of_norms, *numbers)


torch.library.impl("condense::global_layer", "cpu", global_layer)


@torch.library.register_fake("condense::global_layer")  # type: ignore[untyped-decorator]
def _(h: Tensor, f: Tensor | None, *_rest: Any) -> Tensor:
    return torch.empty_like(h, memory_format=memory_format(h, f))


@torch.library.custom_op("condense::evolve", mutates_args=(), device_types="cpu")
def evolve(
    h: Tensor,
    f: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    steps: int,
    dt: float,
    dx: int,
    dy: int,
    scheme: str,
    boundary: str,
    source: bool,
    at_rest: bool,
) -> Tensor:
    """h(K) of every plane.

    Args:
        h: As in `global_layer`; so are all others.
        f: The source and h(-1); None if it is h.
        weight: (C, 4, 9), the 3x3 convolutions of u, v, Dx, Dy, BatchNorms folded in.
        bias: (C, 4).
        steps: K.
        dt: Time step.
        dx: Shift and spacing along the rows.
        dy: The same along the columns.
        scheme: As in `condense.layers.schemes`.
        boundary: As in `condense.layers.stencil`.
        source: Whether f drives the equation.
        at_rest: Whether h(-1) is h(0).

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """
    from condense.layers.kernels import cpu  # noqa: PLC0415

    out = torch.empty_like(h, memory_format=torch.contiguous_format)
    maps = as_maps(h)
    source_maps = maps if f is None else as_maps(f)
    layout = cpu.layout(tuple(h.shape), dx, dy, boundary)
    evolution = cpu.evolution(
        maps.dtype.type, f is None, steps, dt, dx, dy, scheme, source, at_rest
    )
    given = (maps, source_maps, as_array(weight), as_array(bias))
    cpu.evolve(*given, as_maps(out), layout, evolution)
    return out


@evolve.register_fake
def _(h: Tensor, *_rest: Any) -> Tensor:
    return torch.empty_like(h, memory_format=torch.contiguous_format)


@torch.library.custom_op("condense::evolve_backward", mutates_args=(), device_types="cpu")
def evolve_backward(
    grad: Tensor,
    h: Tensor,
    f: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    steps: int,
    dt: float,
    dx: int,
    dy: int,
    scheme: str,
    boundary: str,
    source: bool,
    at_rest: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of h, f, weight and bias from that of h(K); the states are computed anew."""
    from condense.layers.kernels import cpu  # noqa: PLC0415

    maps = as_maps(h)
    source_maps = maps if f is None else as_maps(f)
    to_h = torch.empty_like(h, memory_format=torch.contiguous_format)
    to_f = torch.empty_like(h if f is not None else h[:0], memory_format=torch.contiguous_format)
    layout = cpu.layout(tuple(h.shape), dx, dy, boundary)
    evolution = cpu.evolution(
        maps.dtype.type, f is None, steps, dt, dx, dy, scheme, source, at_rest
    )
    given = (maps, source_maps, as_array(weight), as_array(bias), as_maps(grad), None)
    sums = cpu.backward(*given, as_maps(to_h), as_maps(to_f), layout, evolution)
    return to_h, to_f, as_tensor(sums[0], weight), as_tensor(sums[1], bias)


@evolve_backward.register_fake
def _(
    _grad: Tensor, h: Tensor, f: Tensor | None, weight: Tensor, bias: Tensor, *_rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    to_h = torch.empty_like(h, memory_format=torch.contiguous_format)
    to_f = torch.empty_like(h if f is not None else h[:0], memory_format=torch.contiguous_format)
    return to_h, to_f, torch.empty_like(weight), torch.empty_like(bias)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    h, f, weight, bias, *numbers = inputs
    ctx.save_for_backward(h, f, weight, bias)
    ctx.numbers = numbers


def _evolve_gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    h, f, weight, bias = ctx.saved_tensors
    to_h, to_f, to_weight, to_bias = evolve_backward(grad, h, f, weight, bias, *ctx.numbers)
    nothing = [None] * len(ctx.numbers)
    return (to_h, None if f is None else to_f, to_weight, to_bias, *nothing)


evolve.register_autograd(_evolve_gradients, setup_context=_remember)
