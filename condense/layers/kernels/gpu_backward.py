"""The adjoint of `kernels.gpu_forward`, in closed form, in Triton.

The mathematics is that of `kernels.backward`. States are computed anew; those between h(0)
and h(K) wait in global memory, everything else stays on the chip.
"""

# Triton gives arguments their types when it compiles.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from condense.layers.kernels.gpu_forward import (
    coefficients,
    convolutions,
    step,
    weight_of,
    weights_of_step,
)
from condense.layers.kernels.gpu_plane import moved, place, read, returned, shifted, write


@triton.jit
def evolve_backward_kernel(
    grad_ptr,
    h_ptr,
    f_ptr,
    weight_ptr,
    bias_ptr,
    states_ptr,
    to_h_ptr,
    to_f_ptr,
    to_weight_ptr,
    to_bias_ptr,
    images,
    channels,
    groups,
    state,
    p: tl.constexpr,
):
    """Gradients of h(0), f and, of each group of planes, the weights and biases; K > 0.

    `state` is the number of elements from one kept state to the next.
    """
    channel, group, first, row, col, inside = place(images, channels, p)
    h0 = read(h_ptr, first, row, col, inside, 0, 0, p)
    f = h0 if p.same else read(f_ptr, first, row, col, inside, 0, 0, p)
    maps = coefficients(h_ptr, weight_ptr, bias_ptr, channel, first, row, col, inside, p)
    weights = weights_of_step(*maps, row, col, p)
    before, h = h0, step(h0 if p.at_rest else f, h0, f, weights, row, col, p)
    for _ in range(1, p.steps):
        write(states_ptr, first, row, col, inside, h, p)
        states_ptr += state
        before, h = h, step(before, h, f, weights, row, col, p)
    later = read(grad_ptr, first, row, col, inside, 0, 0, p)
    earlier, to_f = tl.zeros_like(later), tl.zeros_like(later)
    sums = (to_f, to_f, to_f, to_f, to_f, to_f)
    after, h = h, before
    for i in range(1, p.steps):
        states_ptr -= state
        has_kept = i < p.steps - 1  # h(0) is not among the kept states
        kept = read(states_ptr - state, first, row, col, inside & has_kept, 0, 0, p)
        before = tl.where(has_kept, kept, h0)
        later, earlier, to_f, sums = pull_back_step(
            later, earlier, to_f, sums, before, h, after, weights, row, col, p
        )
        after, h = h, before
    before = h0 if p.at_rest else f
    to_h, to_before, to_f, sums = pull_back_step(
        later, earlier, to_f, sums, before, h0, after, weights, row, col, p
    )
    if p.at_rest:
        to_h += to_before
    else:
        to_f += to_before
    if p.same:
        to_h += to_f
    else:
        write(to_f_ptr, first, row, col, inside, to_f, p)
    grads = masked(to_coefficients(sums, row, col, p), maps, inside)
    to_h += to_convolved(grads, weight_ptr, channel, row, col, p)
    write(to_h_ptr, first, row, col, inside, to_h, p)
    to_weight_ptr += channel * 36 * groups + group
    to_weights(grads, h_ptr, to_weight_ptr, groups, first, row, col, inside, p)
    for i in tl.static_range(4):
        tl.store(to_bias_ptr + (channel * 4 + i) * groups + group, tl.sum(grads[i]))


@triton.jit
def pull_back_step(later, now, to_f, sums, before, h, after, weights, row, col, p: tl.constexpr):
    """One step back: gradients of h(k), h(k-1) and f, and the sums for those of the coefficients.

    Args:
        later: Gradient of h(k+1).
        now: What h(k) has of its gradient from the step after.
        to_f: Gradient of f so far.
        sums: So far, of q h(k) here and at the four neighbours, and of q (h(k-1) + h(k+1)).
        before: h(k-1).
        h: h(k).
        after: h(k+1).
        weights: Of the step.
        row: Of each cell.
        col: Of each cell.
        p: The problem.
    """
    s, here, up, down, left, right = weights
    q = later / (1 + s)
    if p.source != 0:
        to_f += p.source * q
    now += here * q
    now += returned(up * q, row, col, -p.dx, 0, p)
    now += returned(down * q, row, col, p.dx, 0, p)
    now += returned(left * q, row, col, 0, -p.dy, p)
    now += returned(right * q, row, col, 0, p.dy, p)
    more = (
        sums[0] + q * h,
        sums[1] + q * shifted(h, row, col, -p.dx, 0, p),
        sums[2] + q * shifted(h, row, col, p.dx, 0, p),
        sums[3] + q * shifted(h, row, col, 0, -p.dy, p),
        sums[4] + q * shifted(h, row, col, 0, p.dy, p),
        sums[5] + q * (before + after),
    )
    return now, (1 - s) * q, to_f, more


@triton.jit
def to_coefficients(sums, row, col, p: tl.constexpr):
    """Gradients of u, v, Dx and Dy."""
    here, up, down, left, right, outer = sums
    if p.scheme == "reference":
        to_ax = down - up
        to_ax += returned(here, row, col, p.dx, 0, p) - returned(here, row, col, -p.dx, 0, p)
        to_ay = right - left
        to_ay += returned(here, row, col, 0, p.dy, p) - returned(here, row, col, 0, -p.dy, p)
        to_bx, to_by = 2 * (up + down - outer), 2 * (left + right - outer)
    else:
        to_ax = returned(up, row, col, -p.dx, 0, p) - returned(down, row, col, p.dx, 0, p)
        to_ay = returned(left, row, col, 0, -p.dy, p) - returned(right, row, col, 0, p.dy, p)
        mean = 0.5 * outer
        up, down, left, right = up - mean, down - mean, left - mean, right - mean
        to_bx = up + down
        to_bx += returned(up, row, col, -p.dx, 0, p) + returned(down, row, col, p.dx, 0, p)
        to_by = left + right
        to_by += returned(left, row, col, 0, -p.dy, p) + returned(right, row, col, 0, p.dy, p)
    return p.rate_x * to_ax, p.rate_y * to_ay, p.diffusion_x * to_bx, p.diffusion_y * to_by


@triton.jit
def masked(grads, maps, inside):
    """The gradients before the ReLU that `maps` came out of, zero beyond the map."""
    return (
        tl.where(inside & ~(maps[0] <= 0), grads[0], 0.0),
        tl.where(inside & ~(maps[1] <= 0), grads[1], 0.0),
        tl.where(inside & ~(maps[2] <= 0), grads[2], 0.0),
        tl.where(inside & ~(maps[3] <= 0), grads[3], 0.0),
    )


@triton.jit
def to_convolved(grads, weight_ptr, channel, row, col, p: tl.constexpr):
    """Gradient of what the four convolutions saw."""
    result = tl.zeros_like(grads[0])
    for a in tl.static_range(3):
        line = tl.zeros_like(result)
        for b in tl.static_range(3):
            part = weight_of(weight_ptr, channel, 0, 3 * a + b, p) * grads[0]
            part += weight_of(weight_ptr, channel, 1, 3 * a + b, p) * grads[1]
            part += weight_of(weight_ptr, channel, 2, 3 * a + b, p) * grads[2]
            part += weight_of(weight_ptr, channel, 3, 3 * a + b, p) * grads[3]
            line += moved(part, row, col, 0, 1 - b, p)
        result += moved(line, row, col, 1 - a, 0, p)
    return result


@triton.jit
def to_weights(grads, h_ptr, to_ptr, groups, first, row, col, inside, p: tl.constexpr):
    """Gradients of the convolutions' 36 weights, summed over the program's planes."""
    for t in tl.static_range(9):
        x = read(h_ptr, first, row, col, inside, t // 3 - 1, t % 3 - 1, p)
        for i in tl.static_range(4):
            tl.store(to_ptr + (i * 9 + t) * groups, tl.sum(grads[i] * x))


@triton.jit
def moments_backward_kernel(
    to_mean_ptr,
    to_variance_ptr,
    mean_ptr,
    h_ptr,
    weight_ptr,
    to_h_ptr,
    to_weight_ptr,
    images,
    channels,
    groups,
    share,
    p: tl.constexpr,
):
    """Gradients of h and, of each group of planes, the weights; `share` is 1 / (N H W)."""
    channel, group, first, row, col, inside = place(images, channels, p)
    maps = convolutions(h_ptr, weight_ptr, channel, first, row, col, inside, p)
    at = channel * 4
    grads = (
        slope(maps[0], to_mean_ptr, to_variance_ptr, mean_ptr, at, inside, share, p),
        slope(maps[1], to_mean_ptr, to_variance_ptr, mean_ptr, at + 1, inside, share, p),
        slope(maps[2], to_mean_ptr, to_variance_ptr, mean_ptr, at + 2, inside, share, p),
        slope(maps[3], to_mean_ptr, to_variance_ptr, mean_ptr, at + 3, inside, share, p),
    )
    to_h = to_convolved(grads, weight_ptr, channel, row, col, p)
    write(to_h_ptr, first, row, col, inside, to_h, p)
    to_weight_ptr += channel * 36 * groups + group
    to_weights(grads, h_ptr, to_weight_ptr, groups, first, row, col, inside, p)


@triton.jit
def slope(values, to_mean_ptr, to_variance_ptr, mean_ptr, at, inside, share, p: tl.constexpr):
    """Gradient of a convolution's result from those of its mean and its variance."""
    to_mean = tl.load(to_mean_ptr + at).to(p.kind)
    to_variance = tl.load(to_variance_ptr + at).to(p.kind)
    mean = tl.load(mean_ptr + at).to(p.kind)
    return tl.where(inside, share * (to_mean + 2 * to_variance * (values - mean)), 0.0)
