import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from condense.errors import DataError
from condense.measurement import Accuracy, accuracy
from condense.measurement.top1 import wilson_interval


class Echo(nn.Module):
    """Its input is its output; counts in which mode it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        return x


def test_three_of_four_over_two_batches() -> None:
    outputs = torch.eye(4)
    batches = [(outputs[:3], torch.tensor([0, 1, 0])), (outputs[3:], torch.tensor([3]))]
    model = Echo().train()
    found = accuracy(model, batches)
    assert (found.top1, found.n) == (0.75, 4)
    assert found.ci95 == pytest.approx((0.3006, 0.9544), abs=1e-4)
    assert model.modes == [False, False]
    assert model.training


def test_outputs_that_are_no_numbers_are_wrong() -> None:
    outputs = torch.tensor([[1.0, 0.0], [float("nan"), 0.0]])
    assert accuracy(Echo(), [(outputs, torch.tensor([0, 0]))]).top1 == 0.5


def test_no_images_is_an_error() -> None:
    with pytest.raises(DataError, match="no images to measure"):
        accuracy(Echo(), [])


def test_images_go_where_the_model_is() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    images = torch.ones(3, 1, 2, 2, dtype=torch.float64)
    assert accuracy(model, [(images, torch.zeros(3, dtype=torch.long))]).n == 3


def test_plain_values() -> None:
    record = Accuracy(0.5, 2, (0.1, 0.9)).to_dict()
    assert record == {"top1": 0.5, "n": 2, "ci95": [0.1, 0.9]}


def test_wilson_as_in_the_textbook() -> None:
    assert wilson_interval(928, 1000) == pytest.approx((0.91029, 0.94244), abs=1e-5)
    assert wilson_interval(0, 10) == pytest.approx((0, 0.27753), abs=1e-5)
    assert wilson_interval(10, 10) == pytest.approx((0.72247, 1), abs=1e-5)


@given(total=st.integers(1, 10_000), share=st.floats(0, 1))
def test_the_interval_holds_the_fraction_and_mirrors(total: int, share: float) -> None:
    right = round(share * total)
    low, high = wilson_interval(right, total)
    assert 0 <= low <= right / total <= high <= 1
    mirrored = wilson_interval(total - right, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)
