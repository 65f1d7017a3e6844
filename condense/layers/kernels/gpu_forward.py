"""The Global layer on a GPU: the coefficients' maps and K time steps of a scheme, in Triton.

Formulas and names are those of `kernels.forward`, which runs the same on a CPU.
"""

# Triton gives arguments their types when it compiles.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

from condense.layers.kernels.gpu_plane import place, read, shifted, write


@triton.jit
def relu(x):
    """max(x, 0), NaN kept."""
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def weight_of(pointer, channel, i: tl.constexpr, t: tl.constexpr, p: tl.constexpr):
    """Tap t of the convolution of coefficient i."""
    return tl.load(pointer + (channel * 4 + i) * 9 + t).to(p.kind)


@triton.jit
def convolutions(h_ptr, weight_ptr, channel, first, row, col, inside, p: tl.constexpr):
    """The zero-padded 3x3 convolutions of h for u, v, Dx and Dy, without their biases."""
    u = tl.zeros([p.planes, p.rows, p.cols], p.kind)
    v, diff_x, diff_y = u, u, u
    for t in tl.static_range(9):
        x = read(h_ptr, first, row, col, inside, t // 3 - 1, t % 3 - 1, p)
        u += weight_of(weight_ptr, channel, 0, t, p) * x
        v += weight_of(weight_ptr, channel, 1, t, p) * x
        diff_x += weight_of(weight_ptr, channel, 2, t, p) * x
        diff_y += weight_of(weight_ptr, channel, 3, t, p) * x
    return u, v, diff_x, diff_y


@triton.jit
def coefficients(h_ptr, weight_ptr, bias_ptr, channel, first, row, col, inside, p: tl.constexpr):
    """u, v, Dx, Dy = relu(3x3 convolution of h + bias)."""
    u, v, diff_x, diff_y = convolutions(h_ptr, weight_ptr, channel, first, row, col, inside, p)
    u = relu(u + tl.load(bias_ptr + channel * 4).to(p.kind))
    v = relu(v + tl.load(bias_ptr + channel * 4 + 1).to(p.kind))
    diff_x = relu(diff_x + tl.load(bias_ptr + channel * 4 + 2).to(p.kind))
    diff_y = relu(diff_y + tl.load(bias_ptr + channel * 4 + 3).to(p.kind))
    return u, v, diff_x, diff_y


@triton.jit
def weights_of_step(u, v, diff_x, diff_y, row, col, p: tl.constexpr):
    """The weights in (1 + s) h(k+1) = (1 - s) h(k-1) + here h(k) + up h(k)[i-1] + … + 2 dt f."""
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
def step(before, h, f, weights, row, col, p: tl.constexpr):
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
def evolve_kernel(
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
    """Out = h(K) of every plane, or relu(scale h(K) + shift)."""
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
def moments_kernel(h_ptr, weight_ptr, mean_ptr, spread_ptr, images, channels, p: tl.constexpr):
    """Per plane, the mean of each convolution's result and the sum of its squared distances to it.

    Such pairs, merged about their common mean, lose no digits to a mean that is large beside the
    deviation.
    """
    channel, group, first, row, col, inside = place(images, channels, p)
    image = group * p.planes + tl.arange(0, p.planes)
    maps = convolutions(h_ptr, weight_ptr, channel, first, row, col, inside, p)
    for i in tl.static_range(4):
        # Beyond the map the results are zero.
        values = tl.where(inside, maps[i], 0.0)
        mean = tl.sum(tl.sum(values, 2), 1) / (p.height * p.width)
        distance = tl.where(inside, values - mean[:, None, None], 0.0)
        at = (image * channels + channel) * 4 + i
        tl.store(mean_ptr + at, mean, mask=image < images)
        spread = tl.sum(tl.sum(distance * distance, 2), 1)
        tl.store(spread_ptr + at, spread, mask=image < images)


@triton.jit
def merge_kernel(
    means_ptr, spreads_ptr, mean_ptr, variance_ptr, images, columns, size, block: tl.constexpr
):
    """Mean and variance over the batch of each column from those of the images, in float64.

    `means` and `spreads` are (images, columns), `size` the number of cells of a plane.
    """
    column = tl.program_id(0)
    total = tl.zeros([block], tl.float64)
    for start in range(0, images, block):
        image = start + tl.arange(0, block)
        at = image.to(tl.int64) * columns + column
        total += tl.load(means_ptr + at, mask=image < images, other=0.0).to(tl.float64)
    mean = tl.sum(total) / images
    spread = tl.zeros([block], tl.float64)
    for start in range(0, images, block):
        image = start + tl.arange(0, block)
        at = image.to(tl.int64) * columns + column
        distance = tl.load(means_ptr + at, mask=image < images, other=0.0).to(tl.float64) - mean
        spread += tl.load(spreads_ptr + at, mask=image < images, other=0.0).to(tl.float64)
        spread += tl.where(image < images, size * distance * distance, 0.0)
    variance = tl.sum(spread) / images / size
    tl.store(mean_ptr + column, mean.to(mean_ptr.dtype.element_ty))
    tl.store(variance_ptr + column, variance.to(variance_ptr.dtype.element_ty))


@triton.jit
def fold_kernel(
    parameters_ptr,
    weight_ptr,
    bias_ptr,
    scale_ptr,
    shift_ptr,
    channels,
    learnt: tl.constexpr,
    diff_x: tl.constexpr,
    diff_y: tl.constexpr,
    has_bias: tl.constexpr,
    coefficient_eps: tl.constexpr,
    out_eps: tl.constexpr,
    kind: tl.constexpr,
):
    """One channel's BatchNorms, folded into the four convolutions and into a scale and a shift."""
    channel = tl.program_id(0)
    tap = tl.arange(0, 16)
    is_tap = tap < 9
    for i in tl.static_range(4):
        to = weight_ptr + (channel * 4 + i) * 9 + tap
        if i < learnt:
            norm_ptr = parameters_ptr + channel + 9 * channels
            bias = tl.load(norm_ptr).to(kind) if has_bias else 0.0
            norm_ptr += channels if has_bias else 0
            slope, offset = fold(norm_ptr, channels, coefficient_eps, kind)
            weights = tl.load(parameters_ptr + channel * 9 + tap, mask=is_tap, other=0.0).to(kind)
            tl.store(to, slope * weights, mask=is_tap)
            tl.store(bias_ptr + channel * 4 + i, slope * bias + offset)
            parameters_ptr += (14 if has_bias else 13) * channels
        else:
            tl.store(to, tl.zeros([16], kind), mask=is_tap)
            tl.store(bias_ptr + channel * 4 + i, diff_x if i == 2 else diff_y)
    slope, offset = fold(parameters_ptr + channel, channels, out_eps, kind)
    tl.store(scale_ptr + channel, slope)
    tl.store(shift_ptr + channel, offset)


@triton.jit
def fold(pointer, channels, eps: tl.constexpr, kind: tl.constexpr):
    """A BatchNorm as slope x + offset; its weight, bias, mean and variance lie `channels` apart."""
    weight = tl.load(pointer).to(kind)
    bias = tl.load(pointer + channels).to(kind)
    mean = tl.load(pointer + 2 * channels).to(kind)
    slope = weight / tl.sqrt(tl.load(pointer + 3 * channels).to(kind) + eps)
    return slope, bias - slope * mean
