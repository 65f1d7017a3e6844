"""A channel's numbers in the lanes that hold its maps, and what the lanes summed up back to it."""

from condense.layers.kernels import LANES
from condense.layers.kernels.plane import Array, kernel


@kernel
def of_channels(sums: Array, maps: int, total: Array) -> None:
    """Add the sums of each map, (groups, T LANES), to those of its channel, (C, T), float64."""
    for m in range(maps):
        channel = m % total.shape[0]
        for t in range(total.shape[1]):
            total[channel, t] += sums[m // LANES, t * LANES + m % LANES]


@kernel
def moments_of_channels(sums: Array, maps: int, area: int, mean: Array, variance: Array) -> None:
    """Mean and variance, (C, T), from what `_moments` left of each map, (groups, 2 T LANES)."""
    channels, kinds = mean.shape
    weight = channels / maps
    for m in range(maps):
        for t in range(kinds):
            mean[m % channels, t] += weight * sums[m // LANES, t * LANES + m % LANES] / area
    for m in range(maps):
        for t in range(kinds):
            of_map = sums[m // LANES, t * LANES + m % LANES] / area
            inner = sums[m // LANES, (kinds + t) * LANES + m % LANES] / area
            outer = of_map - mean[m % channels, t]
            variance[m % channels, t] += weight * (inner + outer * outer)


@kernel
def table_of(values: Array, factors: Array, table: Array) -> None:
    """Each lane's numbers of its channel times the factors: (C, T) -> (patterns, T, LANES)."""
    for p in range(table.shape[0]):
        for lane in range(LANES):
            channel = (p * LANES + lane) % values.shape[0]
            for t in range(values.shape[1]):
                table[p, t, lane] = values[channel, t] * factors[t]
