"""Stages of small networks, one question each."""

import re
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.analysis import Stages, analyze
from condense.analysis.trace import trace
from condense.errors import CondenseError, ConfigError, UnknownNameError

SIZE = (3, 12, 12)


class Residual(nn.Module):
    def __init__(self, before: int, after: int | None = None, stride: int = 1) -> None:
        super().__init__()
        after = after or before
        self.a = nn.Conv2d(before, after, 3, stride=stride, padding=1)
        self.b = nn.Conv2d(after, after, 3, padding=1)
        plain = stride == 1 and before == after
        self.skip = nn.Identity() if plain else nn.Conv2d(before, after, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.b(F.relu(self.a(x))) + self.skip(x))


class Renamed(nn.Module):
    """The same arithmetic as `Residual`, by other names, in place, with dropout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Dropout(0.3),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.path(x)
        y += x
        return F.relu_(y)


class Net(nn.Module):
    """Runs `order` of its blocks between a stem and a head."""

    def __init__(self, blocks: nn.Module, order: list[str], width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = blocks
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.order:
            x = self.blocks.get_submodule(name)(x)
        return x.mean((2, 3))


def stage_of(model: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    (stage,) = analyze(model, SIZE)
    assert stage.convertible == (stage.reason is None)
    return stage.blocks, stage.repeats, stage.reason


def test_class_names_in_place_operators_and_dropout_make_no_difference() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Residual(4), Renamed(4), Residual(4))
    assert stage_of(model) == (("1", "2", "3"), ("2", "3"), None)


def test_order_of_execution_counts_not_order_of_definition() -> None:
    blocks = nn.ModuleDict({name: Residual(4) for name in "xyz"})
    assert stage_of(Net(blocks, ["z", "x", "y"])) == (
        ("blocks.z", "blocks.x", "blocks.y"),
        ("blocks.x", "blocks.y"),
        None,
    )


def test_a_stage_is_named_after_the_container_of_its_blocks_alone() -> None:
    blocks = nn.ModuleList([Residual(4) for _ in range(3)])
    assert [stage.name for stage in analyze(Net(blocks, ["0", "1", "2"]), SIZE)] == ["blocks"]
    flat = nn.Sequential(nn.Conv2d(3, 4, 1), Residual(4), Residual(4))
    assert [stage.name for stage in analyze(flat, SIZE)] == ["1"]


def test_a_transition_counts_as_the_kept_block() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Residual(4, 8, 2), Residual(8))
    assert stage_of(model) == (("1", "2"), ("2",), None)
    (stage,) = analyze(model, SIZE)
    assert (stage.in_shape, stage.out_shape) == ((4, 12, 12), (8, 6, 6))


def test_a_run_may_cross_containers() -> None:
    first = nn.Sequential(nn.Conv2d(3, 4, 1), Residual(4), Residual(4))
    second = nn.Sequential(Residual(4), Residual(4), nn.Conv2d(4, 4, 1))
    blocks, repeats, reason = stage_of(nn.Sequential(first, second))
    assert (blocks, repeats, reason) == (("0.1", "0.2", "1.0", "1.1"), blocks[1:], None)


def test_nested_repeats_resolve_to_the_outermost() -> None:
    pairs = [nn.Sequential(Residual(4), Residual(4)) for _ in range(3)]
    model = nn.Sequential(nn.Conv2d(3, 4, 1), *pairs)
    assert stage_of(model)[1] == ("2", "3")


def test_blocks_may_be_sequentials() -> None:
    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(True))

    model = nn.Sequential(nn.Conv2d(3, 4, 1), block(), block(), block())
    assert stage_of(model) == (("1", "2", "3"), ("2", "3"), None)


def test_convolutions_inside_a_residual_branch_are_no_blocks() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.path = nn.Sequential(
                *(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(2))
            )

        def forward(self, x: Tensor) -> Tensor:
            return x + self.path(x)

    assert len(analyze(nn.Sequential(nn.Conv2d(3, 4, 1), Inner()), SIZE)) == 0


def test_two_runs_of_one_shape_are_two_stages() -> None:
    narrow = [Residual(4) for _ in range(2)]
    wide = [
        nn.Sequential(nn.Conv2d(4, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 4, 5, padding=2))
        for _ in range(2)
    ]
    stages = analyze(nn.Sequential(nn.Conv2d(3, 4, 1), *narrow, *wide), SIZE)
    assert [stage.repeats for stage in stages] == [("2",), ("3", "4")]


def test_blocks_that_differ_in_a_setting_are_not_equal() -> None:
    class Scaled(Residual):
        def __init__(self, scale: float) -> None:
            super().__init__(4)
            self.scale = scale

        def forward(self, x: Tensor) -> Tensor:
            return x + self.scale * super().forward(x)

    model = nn.Sequential(nn.Conv2d(3, 4, 1), *(Scaled(s) for s in (0.1, 0.2, 0.3)))
    assert stage_of(model) == (("1", "2", "3"), (), "its blocks differ from one another")


def test_a_wrapper_around_the_model_changes_names_only() -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: Tensor, **options: object) -> Tensor:
            return self.module(*inputs, **options)

    model = Wrapper(Net(nn.ModuleList([Residual(4), Residual(4)]), ["0", "1"]))
    assert stage_of(model)[1] == ("module.blocks.1",)


def test_plain_convolutions_have_no_blocks() -> None:
    layers = [layer for _ in range(3) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    blocks, repeats, reason = stage_of(nn.Sequential(nn.Conv2d(3, 4, 1), *layers))
    assert blocks == ("1", "3", "5")
    assert repeats == ()
    assert reason is not None
    assert "single convolutions" in reason


def test_a_model_without_repeats_has_no_stage() -> None:
    assert len(analyze(nn.Sequential(nn.Flatten(), nn.Linear(432, 2)), SIZE)) == 0


class Tapped(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        seen = []
        for name in self.order:
            x = self.blocks.get_submodule(name)(x)
            seen.append(x)
        return seen[0].mean((2, 3)) + x.mean((2, 3))


class Escaping(Net):
    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        return [x := self.blocks.get_submodule(name)(x) for name in self.order]


class Looking(Residual):
    seen: Tensor

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.seen = y * 2
        return y


class Peeking(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y + self.blocks.get_submodule("1").seen.mean((2, 3))  # type: ignore[union-attr]


class Told(Residual):
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return super().forward(x) * scale


class Telling(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.order:
            x = self.blocks.get_submodule(name)(x, scale=2.0)
        return x


class Pair(Residual):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        y = super().forward(x)
        return y, y * 2


class Unpacking(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.order:
            x, _ = self.blocks.get_submodule(name)(x)
        return x


class Adding(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = first = self.stem(x)
        for name in self.order:
            x = self.blocks.get_submodule(name)(x, first)
        return x


class Two(Residual):
    def forward(self, x: Tensor, other: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) + other


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.a(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Permuted(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        for name in self.order:
            x = self.blocks.get_submodule(name)(x)
        return x


class Pointwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.relu(self.a(x)))


@pytest.mark.parametrize(
    ("net", "block", "reason"),
    [
        (Tapped, lambda: Residual(4), "the input of blocks.1 is also used elsewhere"),
        (Escaping, lambda: Residual(4), "the input of blocks.1 is also an output of the model"),
        (Peeking, lambda: Looking(4), "a value from inside blocks.1 is used after it"),
        (Telling, lambda: Told(4), "blocks.1 takes other arguments beside its feature map"),
        (Unpacking, lambda: Pair(4), "blocks.1 gives back a collection of tensors"),
        (Adding, lambda: Two(4), "blocks.2 takes 2 tensors, not one feature map"),
        (Permuted, ChannelsLast, r"blocks.1 keeps its channels last: its map is \(H, W, C\)"),
        (Net, Pointwise, "blocks.1 holds no spatial convolution"),
    ],
)
def test_a_stage_that_cannot_be_converted_says_why(
    net: type[Net], block: type[nn.Module], reason: str
) -> None:
    model = net(nn.ModuleList([block() for _ in range(3)]), ["0", "1", "2"])
    (stage,) = analyze(model, SIZE)
    assert len(stage.blocks) == 3
    assert not stage.convertible
    assert re.search(reason, str(stage.reason))


def test_a_module_that_is_called_twice_is_no_repeat() -> None:
    stages = analyze(Net(nn.ModuleList([Residual(4)]), ["0", "0", "0"]), SIZE)
    assert not stages.convertible


def test_shared_parameters_are_no_repeat() -> None:
    blocks = nn.ModuleList([Residual(4) for _ in range(3)])
    blocks[2].a.weight = blocks[0].a.weight  # type: ignore[union-attr]
    reason = stage_of(Net(blocks, ["0", "1", "2"]))[2]
    assert reason == "blocks.2 shares parameters with another part of the model"


def test_analysis_leaves_modes_weights_buffers_and_generators_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), Residual(4), Residual(4))
    model.train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    analyze(model, SIZE)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in model] == [True, False, True, True]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("size", "message", "hint"),
    [
        ((1, 12, 12), "does not run on a 1x12x12 image: module '0'", "takes 3 channels, 1 were"),
        ((3, 9, 9), "3x9x9 image: module '3' raised RuntimeError: ", "that layer takes 576 feat"),
    ],
)
def test_a_wrong_input_size_says_what_the_model_expects(
    size: tuple[int, int, int], message: str, hint: str
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Residual(4), nn.Flatten(), nn.Linear(576, 2))
    with pytest.raises(CondenseError, match=message) as caught:
        analyze(model, size)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("layers", "size", "hint"),
    [
        ([nn.Conv2d(3, 4, 1), nn.Conv2d(5, 4, 1)], SIZE, "that layer takes 5 channels"),
        ([nn.Flatten(), nn.LayerNorm(7)], SIZE, "state the size that the model was made for"),
    ],
)
def test_the_layer_that_fails_says_what_it_takes(
    layers: list[nn.Module], size: tuple[int, int, int], hint: str
) -> None:
    with pytest.raises(CondenseError, match="module '1' raised RuntimeError") as caught:
        analyze(nn.Sequential(*layers), size)
    assert hint in str(caught.value.hint)


def test_the_architecture_s_own_size_is_the_hint() -> None:
    @dataclass
    class Origin:
        input_size: tuple[int, int, int] = (3, 12, 12)

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(576, 2))
    model.origin = Origin()  # type: ignore[assignment]
    with pytest.raises(CondenseError) as caught:
        analyze(model, (3, 9, 9))
    assert caught.value.hint == "its architecture takes --input-size 3x12x12"


def test_a_long_message_of_the_model_s_own_is_cut() -> None:
    class Loud(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("x" * 500)

    with pytest.raises(CondenseError, match=r"the model itself raised ValueError: x{160}…$"):
        analyze(Loud(), SIZE)


def test_a_size_must_be_three_numbers() -> None:
    with pytest.raises(ConfigError, match="three positive numbers"):
        analyze(Residual(3), (3, 8))


def test_an_unknown_stage_names_those_that_exist() -> None:
    blocks = nn.ModuleList([Residual(4), Residual(4)])
    stages = analyze(Net(blocks, ["0", "1"]), SIZE)
    with pytest.raises(
        UnknownNameError, match="no stage named 'block'; there are: blocks"
    ) as caught:
        stages.select(["block"])
    assert caught.value.hint == "did you mean 'blocks'?"


def test_the_dictionary_has_the_published_keys() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Residual(4), Residual(4))
    stages = analyze(model, SIZE)
    assert isinstance(stages, Stages)
    document = stages.to_dict()
    assert set(document["stages"][0]) == {
        *("name", "blocks", "repeats", "in_shape", "out_shape", "params", "macs"),
        *("latency_ms", "convertible", "reason", "replacement"),
    }
    assert document["stages"][0]["params"] == 2 * 2 * (4 * 4 * 9 + 4)
    assert document["stages"][0]["macs"] == 2 * 2 * 4 * 4 * 9 * 144
    assert document["totals"]["macs"] == document["stages"][0]["macs"] + 3 * 4 * 144


def test_kernels_may_be_computed_from_other_weights() -> None:
    blocks = [Residual(8) for _ in range(3)]
    for block in blocks:
        nn.utils.parametrizations.weight_norm(block.a)
    found = analyze(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(*blocks)), SIZE)
    assert [stage.blocks for stage in found] == [("1.0", "1.1", "1.2")]


def test_fused_attention_has_its_multiplications() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            heads = x.flatten(2).transpose(1, 2).contiguous()[:, None]  # (N, 1, pixels, C)
            return F.scaled_dot_product_attention(heads, heads, heads)

    operations = trace(Attention(), (4, 3, 3)).operations
    counted = {operation.name: operation.macs for operation in operations if operation.macs}
    assert counted == {"_scaled_dot_product_flash_attention_for_cpu": 2 * 9 * 9 * 4}
