from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from condense.layers import GlobalLayer
from condense.measurement import count_elementwise, count_macs, count_params


def test_convolutions_and_linear_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4),
        nn.Flatten(),
        nn.Linear(8 * 16, 5),
    )
    counted = count_macs(model, (3, 8, 8))
    convolutions = 8 * 64 * 27 + 8 * 16 * 2 * 9
    assert counted.by_op == {"convolution": convolutions, "addmm": 8 * 16 * 5}
    assert counted.total == convolutions + 8 * 16 * 5
    assert counted.uncounted == {}


def test_functional_calls_and_attention_are_seen() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)

    assert count_macs(Attention(), (4, 3, 3)).total == 2 * 9 * 9 * 4


def test_the_fused_attention_of_eval_mode_is_taken_apart() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(2).transpose(1, 2))

    projections = 4 * 8 * 8 + 2 * 8 * 16
    assert count_macs(Encoder(), (8, 2, 2)).total == 4 * projections + 2 * 4 * 4 * 8


def test_what_has_no_rule_is_named_with_its_size() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            spectrum = torch.fft.rfft2(nn.functional.max_pool2d(x, 2))
            return spectrum.real.softmax(-1)

    uncounted = count_macs(Odd(), (2, 8, 8)).uncounted
    assert uncounted == {
        "max_pool2d_with_indices": 2 * 2 * 16,
        "_fft_r2c": 2 * 4 * 3,
        "_softmax": 2 * 4 * 3,
    }


def test_views_copies_and_new_tensors_are_no_work() -> None:
    class Movement(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.cat([x.roll(1, 2), x.permute(0, 1, 3, 2)], 1)
            z = torch.zeros_like(y).copy_(y).transpose_(2, 3).unsqueeze_(0).squeeze_(0)
            return nn.functional.pad(z, (1, 1)).flatten(1)

    counted = count_macs(Movement(), (2, 4, 4))
    assert (counted.total, counted.uncounted) == (0, {})
    assert count_elementwise(Movement(), (2, 4, 4)) == 0


def test_the_model_is_left_as_it_was(small: nn.Module) -> None:
    small.train()
    small[1].eval()
    before = [module.training for module in small.modules()]
    weights = {name: value.clone() for name, value in small.state_dict().items()}
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    count_macs(small, (3, 8, 8))
    assert [module.training for module in small.modules()] == before
    assert not any(module._forward_hooks for module in small.modules())
    assert torch.backends.mha.get_fastpath_enabled() == fast_attention
    for name, value in small.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


def test_modes_come_back_after_an_error(small: nn.Module) -> None:
    small.train()
    with pytest.raises(RuntimeError):
        count_macs(small, (5, 8, 8))
    assert all(module.training for module in small.modules())


def test_elementwise_work_by_hand() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x)  # 2
            y = nn.functional.hardswish(y) * x  # 1 + 1
            y += 3.0  # 1, in place
            y = torch.add(y, x, alpha=2)  # 2
            return torch.relu_(y).sum((2, 3)) / 4  # 1, then 2 values

    assert count_elementwise(Net(), (2, 3, 3)) == 8 * 18 + 2


@pytest.mark.parametrize(
    ("module", "per_element"),
    [
        (nn.ReLU(), 1),
        (nn.ReLU6(inplace=True), 1),
        (nn.SiLU(), 1),
        (nn.Hardswish(), 1),
        (nn.Hardsigmoid(), 1),
        (nn.GELU(), 1),
        (nn.LeakyReLU(), 1),
        (nn.PReLU(), 1),
        (nn.Sigmoid(), 1),
        (nn.BatchNorm2d(2), 2),
        (nn.GroupNorm(1, 2), 2),
        (nn.LayerNorm((2, 4, 4)), 2),
        (nn.Identity(), 0),
        (nn.Dropout(), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_activation_is_one_and_each_normalisation_two(
    module: nn.Module, per_element: int
) -> None:
    assert count_elementwise(module, (2, 4, 4)) == per_element * 32


def test_every_time_step_of_a_pde_layer_shows_in_elementwise_work_only() -> None:
    layers = [GlobalLayer(4, steps=steps) for steps in range(4)]
    work = [count_elementwise(layer, (4, 6, 6)) for layer in layers]
    steps = [after - before for before, after in pairwise(work)]
    assert steps[0] == steps[1] == steps[2] > 4 * 36 * 10
    assert len({count_macs(layer, (4, 6, 6)).total for layer in layers}) == 1


def test_parameters_shared_by_two_modules_count_once() -> None:
    shared = nn.Linear(3, 4)
    assert count_params(nn.Sequential(shared, nn.ReLU(), shared)) == 16
    assert count_params(nn.BatchNorm2d(5)) == 10
