"""The Global layer on a GPU: the coefficients' maps and K time steps of either explicit scheme, in Triton.

Formulas and names are those of `kernels.forward`, which runs the same on a CPU.
"""

import triton
import triton.language as tl

from condense.layers.kernels.gpu_plane import place, read, shifted, write


@triton.jit
def relu(x):  # type: ignore[no-untyped-def]
    """max(x, 0), NaN kept."""
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def weight_of(pointer, channel, i: tl.constexpr, t: tl.constexpr, p: tl.constexpr):  # type: ignore[no-untyped-def]
    """Tap t of the convolution of coefficient i."""
    return tl.load(pointer + (channel * 4 + i) * 9 + t).to(p.kind)


@triton.jit
def convolutions(h_ptr, weight_ptr, channel, first, row, col, inside, p: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: PLR0913
    """The zero-padded 3x3 convolutions of h for u, v, Dx and Dy, without their biases."""
    u = tl.zeros([p.planes, p.cells], p.kind)
    v, diff_x, diff_y = u, u, u
    for t in tl.static_range(9):
        x = read(h_ptr, first, row, col, inside, t // 3 - 1, t % 3 - 1, p)
        u += weight_of(weight_ptr, channel, 0, t, p) * x
        v += weight_of(weight_ptr, channel, 1, t, p) * x
        diff_x += weight_of(weight_ptr, channel, 2, t, p) * x
        diff_y += weight_of(weight_ptr, channel, 3, t, p) * x
    return u, v, diff_x, diff_y


@triton.jit
def coefficients(h_ptr, weight_ptr, bias_ptr, channel, first, row, col, inside, p: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: PLR0913
    """u, v, Dx, Dy = relu(3x3 convolution of h + bias)."""
    u, v, diff_x, diff_y = convolutions(h_ptr, weight_ptr, channel, first, row, col, inside, p)
    u = relu(u + tl.load(bias_ptr + channel * 4).to(p.kind))
    v = relu(v + tl.load(bias_ptr + channel * 4 + 1).to(p.kind))
    diff_x = relu(diff_x + tl.load(bias_ptr + channel * 4 + 2).to(p.kind))
    diff_y = relu(diff_y + tl.load(bias_ptr + channel * 4 + 3).to(p.kind))
    return u, v, diff_x, diff_y


@triton.jit
def weights_of_step(u, v, diff_x, diff_y, row, col, p: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: PLR0913
    """(1 + s) h(k+1) = (1 - s) h(k-1) + here h(k) + up h(k)[i-1] + … + 2 dt f: s, and these five weights."""
    if p.scheme == "reference":
        bx, by = 2 * p.diffusion_x * diff_x, 2 * p.diffusion_y * diff_y
        ax, ay = p.rate_x * u, p.rate_y * v
        s = bx + by
        here = shifted(ax, row, col, p.dx, 0, p) - shifted(ax, row, col, -p.dx, 0, p)
        here += shifted(ay, row, col, 0, p.dy, p) - shifted(ay, row, col, 0, -p.dy, p)
        up, down, left, right = bx - ax, bx + ax, by - ay, by + ay
    else:
        bx, by = p.diffusion_x * diff_x, p.diffusion_y * diff_y
        ax, ay = p.rate_x * u, p.rate_y * v
        up = bx + shifted(bx, row, col, -p.dx, 0, p)
        down = bx + shifted(bx, row, col, p.dx, 0, p)
        left = by + shifted(by, row, col, 0, -p.dy, p)
        right = by + shifted(by, row, col, 0, p.dy, p)
        s = 0.5 * (up + down + left + right)
        here = tl.zeros_like(s)
        up += shifted(ax, row, col, -p.dx, 0, p)
        down -= shifted(ax, row, col, p.dx, 0, p)
        left += shifted(ay, row, col, 0, -p.dy, p)
        right -= shifted(ay, row, col, 0, p.dy, p)
    return s, here, up, down, left, right


@triton.jit
def step(before, h, f, weights, row, col, p: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: PLR0913
    """h(k+1) from h(k-1) and h(k)."""
    s, here, up, down, left, right = weights
    total = (1 - s) * before + here * h
    if p.source != 0:
        total += p.source * f
    total += up * shifted(h, row, col, -p.dx, 0, p)
    total += down * shifted(h, row, col, p.dx, 0, p)
    total += left * shifted(h, row, col, 0, -p.dy, p)
    total += right * shifted(h, row, col, 0, p.dy, p)
    return total / (1 + s)


@triton.jit
def evolve_kernel(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    h_ptr,
    f_ptr,
    weight_ptr,
    bias_ptr,
    scale_ptr,
    shift_ptr,
    out_ptr,
    images,
    channels,
    p: tl.constexpr,
):
    """out = h(K) of every plane, or relu(scale h(K) + shift)."""
    channel, _, first, row, col, inside = place(images, channels, p)
    h = read(h_ptr, first, row, col, inside, 0, 0, p)
    if p.steps > 0:
        f = h if p.same else read(f_ptr, first, row, col, inside, 0, 0, p)
        maps = coefficients(h_ptr, weight_ptr, bias_ptr, channel, first, row, col, inside, p)
        weights = weights_of_step(*maps, row, col, p)
        before = h if p.at_rest else f
        for _k in range(p.steps):
            after = step(before, h, f, weights, row, col, p)
            before = h
            h = after
    if p.epilogue:
        scale = tl.load(scale_ptr + channel).to(p.kind)
        h = relu(scale * h + tl.load(shift_ptr + channel).to(p.kind))
    write(out_ptr, first, row, col, inside, h, p)


@triton.jit
def moments_kernel(h_ptr, weight_ptr, mean_ptr, spread_ptr, images, channels, p: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: PLR0913
    """Mean of each convolution's result over each plane, and the sum of its squared distance from that mean.

    The two of each plane, not of the batch: merged about their common mean, they lose no digits to a
    mean that is large beside the deviation.
    """
    channel, group, first, row, col, inside = place(images, channels, p)
    image = group * p.planes + tl.arange(0, p.planes)
    maps = convolutions(h_ptr, weight_ptr, channel, first, row, col, inside, p)
    for i in tl.static_range(4):
        # Beyond the map the results are zero.
        values = tl.where(inside, maps[i], 0.0)
        mean = tl.sum(values, 1) / (p.height * p.width)
        distance = tl.where(inside, values - mean[:, None], 0.0)
        at = (image * channels + channel) * 4 + i
        tl.store(mean_ptr + at, mean, mask=image < images)
        tl.store(spread_ptr + at, tl.sum(distance * distance, 1), mask=image < images)
