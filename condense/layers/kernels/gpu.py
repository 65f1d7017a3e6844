"""The fused kernels on CUDA tensors, by Triton: the operators that `kernels.ops` has for the CPU.

Maps may be float32, bfloat16, float16 (arithmetic and sums in float32) or float64. Results do not
depend on the order in which programs run: each writes its own partial sums. Maps that are not
contiguous are copied once: a program that picked one channel out of channels_last memory would
fetch eight times what it needs.

Import this module only where Triton is installed. With TRITON_INTERPRET=1 set before, it takes CPU
tensors.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from condense.layers.kernels.gpu_backward import evolve_backward_kernel, moments_backward_kernel
from condense.layers.kernels.gpu_forward import (
    evolve_kernel,
    fold_kernel,
    merge_kernel,
    moments_kernel,
)
from condense.layers.kernels.gpu_plane import Problem

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
MOST_CELLS = 64 * 64
"""Of a map, its sides rounded up to powers of two: a program holds whole planes in registers."""
CELLS_OF_A_PROGRAM = 1024
CELLS_OF_A_WARP = 256


def register() -> None:
    """Make these the operators' kernels for CUDA tensors."""
    from condense.layers.kernels import ops  # noqa: PLC0415 - the functions below need it not

    torch.library.impl("condense::global_layer", "cuda", global_layer)
    ops.evolve.register_kernel("cuda", evolve)
    ops.evolve_backward.register_kernel("cuda", evolve_backward)


def fits(h: Tensor) -> bool:
    """Whether there are kernels for maps like h."""
    return h.dtype in DTYPES and _padded(h.shape[2]) * _padded(h.shape[3]) <= MOST_CELLS


def global_layer(
    h: Tensor,
    f: Tensor | None,
    parameters: list[Tensor],
    constants: list[float],
    has_bias: bool,
    coefficient_eps: float,
    out_eps: float,
    *numbers: Any,
) -> Tensor:
    """A whole Global layer in eval mode, as `ops.global_layer`."""
    channels, kind = h.shape[1], _kind(h)
    flat = torch.cat([parameter.reshape(-1) for parameter in parameters])
    folded = [
        flat.new_empty((channels, *rest), dtype=_torch_kind(h)) for rest in ((4, 9), (4,), (), ())
    ]
    diff_x, diff_y = constants or (0.0, 0.0)
    options = (4 - len(constants), diff_x, diff_y, has_bias, coefficient_eps, out_eps, kind)
    _launch(fold_kernel, channels, 1, flat, *folded, channels, *options)
    return _forward(h, f, *folded, *numbers)


def evolve(h: Tensor, f: Tensor | None, weight: Tensor, bias: Tensor, *numbers: Any) -> Tensor:
    """h(K) of every plane, as `ops.evolve`."""
    return _forward(h, f, weight, bias, None, None, *numbers)


def evolve_backward(
    grad: Tensor, h: Tensor, f: Tensor | None, weight: Tensor, bias: Tensor, *numbers: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of h, f, weight and bias from that of h(K), as `ops.evolve_backward`."""
    to_h, to_f = _empty(h), _empty(h if f is not None else h[:0])
    problem = _problem(h, f, *numbers)
    if h.numel() == 0 or problem.steps == 0:
        to_h.copy_(grad)
        return to_h, to_f.zero_(), torch.zeros_like(weight), torch.zeros_like(bias)
    images, channels = h.shape[:2]
    groups = triton.cdiv(images, problem.planes)
    kind = _torch_kind(h)
    states = h.new_empty((problem.steps - 1, *h.shape), dtype=kind)
    to_weight = h.new_empty((channels, 4, 9, groups), dtype=kind)
    to_bias = h.new_empty((channels, 4, groups), dtype=kind)
    maps = h.contiguous()
    source = maps if f is None else f.contiguous()
    given = (grad.contiguous(), maps, source, weight.contiguous(), bias.contiguous())
    results = (states, to_h, to_f, to_weight, to_bias)
    sizes = (images, channels, groups, h.numel())
    _launch(
        evolve_backward_kernel,
        channels * groups,
        _warps(problem),
        *given,
        *results,
        *sizes,
        problem,
    )
    return to_h, to_f, to_weight.sum(-1).to(weight.dtype), to_bias.sum(-1).to(bias.dtype)


def moments(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of the convolutions, as `gpu_moments.moments`."""
    problem, (images, channels) = _problem(h), h.shape[:2]
    mean, variance = (weight.new_full((channels, 4), torch.nan) for _ in range(2))
    if h.numel() == 0:
        return mean, variance
    means, spreads = (h.new_empty((images, channels, 4), dtype=_torch_kind(h)) for _ in range(2))
    programs = channels * triton.cdiv(images, problem.planes)
    maps = (h.contiguous(), weight.contiguous(), means, spreads)
    _launch(moments_kernel, programs, _warps(problem), *maps, images, channels, problem)
    sizes = (images, channels * 4, h.shape[2] * h.shape[3])
    _launch(merge_kernel, channels * 4, 1, means, spreads, mean, variance, *sizes, 128)
    return mean, variance


def moments_backward(
    to_mean: Tensor, to_variance: Tensor, mean: Tensor, h: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of h and weight, as `gpu_moments.moments_backward`."""
    to_h, problem = _empty(h), _problem(h)
    if h.numel() == 0:
        return to_h, torch.zeros_like(weight)
    images, channels = h.shape[:2]
    groups = triton.cdiv(images, problem.planes)
    to_weight = h.new_empty((channels, 4, 9, groups), dtype=_torch_kind(h))
    given = (t.contiguous() for t in (to_mean, to_variance, mean, h, weight))
    share = 1 / (images * h.shape[2] * h.shape[3])
    sizes = (images, channels, groups, share)
    _launch(
        moments_backward_kernel,
        channels * groups,
        _warps(problem),
        *given,
        to_h,
        to_weight,
        *sizes,
        problem,
    )
    return to_h, to_weight.sum(-1).to(weight.dtype)


def _forward(
    h: Tensor,
    f: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    *numbers: Any,
) -> Tensor:
    out = _empty(h)
    if h.numel() == 0:
        return out
    problem = _problem(h, f, *numbers, epilogue=scale is not None)
    maps = h.contiguous()
    source = maps if f is None else f.contiguous()
    epilogue = (bias if scale is None else scale, bias if shift is None else shift)
    images, channels = h.shape[:2]
    programs = channels * triton.cdiv(images, problem.planes)
    given = (maps, source, weight.contiguous(), bias.contiguous(), *epilogue, out)
    _launch(evolve_kernel, programs, _warps(problem), *given, images, channels, problem)
    return out


def _problem(
    h: Tensor,
    f: Tensor | None = None,
    steps: int = 0,
    dt: float = 0.0,
    dx: int = 1,
    dy: int = 1,
    scheme: str = "reference",
    boundary: str = "zero",
    source: bool = True,  # noqa: FBT002
    at_rest: bool = False,  # noqa: FBT002
    *,
    epilogue: bool = False,
) -> Problem:
    if not fits(h):
        raise ValueError(
            f"no GPU kernel for maps of {tuple(h.shape)} in {h.dtype}: at most {MOST_CELLS} cells"
        )
    images, _, height, width = h.shape
    rows, cols = _padded(height), _padded(width)
    planes = min(_padded(images), max(CELLS_OF_A_PROGRAM // (rows * cols), 1))
    return Problem(
        height=height,
        width=width,
        planes=planes,
        rows=rows,
        cols=cols,
        kind=_kind(h),
        dx=dx,
        dy=dy,
        boundary=boundary,
        scheme=scheme,
        steps=steps,
        rate_x=dt / dx,
        rate_y=dt / dy,
        diffusion_x=dt / dx**2,
        diffusion_y=dt / dy**2,
        source=2 * dt if source else 0.0,
        same=f is None,
        at_rest=at_rest,
        epilogue=epilogue,
    )


def _launch(kernel: Callable[..., Any], programs: int, warps: int, *arguments: Any) -> None:
    # Triton launches on the current device, whatever the tensors' one is.
    with torch.cuda.device_of(arguments[0]):
        kernel[(programs,)](*arguments, num_warps=warps, enable_fp_fusion=True)  # type: ignore[index]


def _warps(problem: Problem) -> int:
    return min(max(problem.planes * problem.rows * problem.cols // CELLS_OF_A_WARP, 1), 16)


def _padded(length: int) -> int:
    padded: int = triton.next_power_of_2(max(length, 1))
    return padded


def _kind(h: Tensor) -> Any:
    return tl.float64 if h.dtype == torch.float64 else tl.float32


def _torch_kind(h: Tensor) -> torch.dtype:
    return torch.float64 if h.dtype == torch.float64 else torch.float32


def _empty(h: Tensor) -> Tensor:
    return torch.empty_like(h, memory_format=torch.contiguous_format)
