"""Numbers as people read them. One function per kind of number; nothing else formats one."""

from typing import Any

NOTHING = "–"


def count(value: int | None) -> str:
    """`464,154`."""
    return NOTHING if value is None else f"{value:,}"


def large(value: float | None) -> str:
    """`68.9 M`: three significant digits and a thousand's letter."""
    if value is None:
        return NOTHING
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{_three_digits(value / size)} {unit}"
    return f"{value:g}"


def size(value: int | None) -> str:
    """`1.86 MB`."""
    if value is None:
        return NOTHING
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= step:
            return f"{_three_digits(value / step)} {unit}"
    return f"{value} B"


def milliseconds(value: float | None, spread: float | None = None) -> str:
    """`3.22` or, with the interquartile range, `3.22 (IQR 0.11)`."""
    if value is None:
        return NOTHING
    text = _three_digits(value)
    return text if spread is None else f"{text} (IQR {spread:.2g})"


def percent(value: float | None) -> str:
    """`92.8 %` of a fraction."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


def points(difference: float) -> str:
    """`+0.4` of a difference of fractions, in percentage points; the sign of zero is plus."""
    return f"{100 * difference + 0.0:+.1f}"


def accuracy(record: dict[str, Any] | None) -> str:
    """`92.8 % (91.0–94.2)`: top-1 with its 95 % interval."""
    if record is None:
        return NOTHING
    low, high = record["ci95"]
    return f"{percent(record['top1'])} ({100 * low:.1f}–{100 * high:.1f})"


def times(ratio: float) -> str:
    """`5.2x` of a factor."""
    return f"{ratio:.3g}x" if ratio < 10 else f"{ratio:.0f}x"


def shape(sizes: Any) -> str:
    """`16x32x32`."""
    return "x".join(str(side) for side in sizes)


def _three_digits(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
