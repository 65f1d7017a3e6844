import pytest

from condense.reporting import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (999, "999"),
        (1_000, "1.00 k"),
        (68_862_592, "68.9 M"),
        (4e9, "4.00 G"),
    ],
)
def test_large_numbers(value: float | None, text: str) -> None:
    assert figures.large(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (12, "12 B"), (1_890_043, "1.89 MB"), (512_000, "512 kB"), (2e9, "2.00 GB")],
)
def test_sizes(value: int | None, text: str) -> None:
    assert figures.size(value) == text


def test_what_was_not_measured_is_a_dash() -> None:
    assert figures.count(None) == figures.milliseconds(None) == "–"
    assert figures.percent(None) == figures.accuracy(None) == "–"


def test_times_points_and_factors() -> None:
    assert figures.milliseconds(123.4) == "123"
    assert figures.milliseconds(12.34, 0.5) == "12.3 (IQR 0.5)"
    assert (figures.times(5.234), figures.times(12.6)) == ("5.23x", "13x")
    assert (figures.points(-0.0001), figures.points(0.0)) == ("-0.0", "+0.0")
    assert figures.shape((3, 32, 32)) == "3x32x32"
