from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from condense.layers import GlobalLayer
from condense.measurement import depth_blocks, depth_layers, pde_steps


class Wrapper(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)


@pytest.mark.parametrize(
    ("repeats", "layer", "blocks", "layers"),
    [(5, None, 15, 32), (1, GlobalLayer, 6, 11), (1, None, 3, 8), (2, GlobalLayer, 9, 17)],
)
def test_cifar_resnets_converted_or_not(
    resnet: Callable[..., nn.Module], repeats: int, layer: type | None, blocks: int, layers: int
) -> None:
    model = resnet(repeats, (16, 32, 64), layer)
    assert depth_blocks(model, (3, 32, 32)) == blocks
    assert depth_layers(model, (3, 32, 32)) == layers
    assert depth_blocks(Wrapper(Wrapper(model)), (3, 32, 32)) == blocks


@pytest.mark.parametrize(
    ("name", "blocks", "layers"),
    [
        ("resnet18", 8, 18),
        ("mobilenet_v2", 17, 53),
        ("mobilenet_v3_large", 15, 64),
        ("convnext_tiny", 18, 59),
        ("vgg11", 0, 11),
        ("vit_b_16", 12, 50),
    ],
)
def test_torchvision_networks(name: str, blocks: int, layers: int) -> None:
    from torchvision import models

    model = getattr(models, name)(num_classes=3)
    size = (3, 224, 224) if name == "vit_b_16" else (3, 64, 64)
    assert depth_blocks(model, size) == blocks
    assert depth_layers(model, size) == layers


@pytest.mark.parametrize(
    ("name", "blocks", "layers"),
    [
        ("resnet50", 16, 50),
        ("efficientnet_b0", 16, 82),
        ("efficientnet_v2_s", 40, 171),
        ("densenet121", 58, 121),
        ("regnet_y_400mf", 16, 82),
        ("googlenet", 9, 22),
        ("shufflenet_v2_x1_0", 16, 51),
        ("swin_t", 12, 53),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_more_torchvision_networks_wrapped_too(name: str, blocks: int, layers: int) -> None:
    from torchvision import models

    options = {"init_weights": False} if name == "googlenet" else {}
    model = getattr(models, name)(num_classes=3, **options)
    assert depth_blocks(model, (3, 64, 64)) == blocks
    assert depth_blocks(Wrapper(Wrapper(model)), (3, 64, 64)) == blocks
    assert depth_layers(model, (3, 64, 64)) == layers


class SepConv(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.Conv2d(channels, channels, 1),
        )


class Operation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Sequential(SepConv(channels), SepConv(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Cell(nn.Module):
    """As in DARTS: two inputs, operations of one class that meet in sums."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList([Operation(channels) for _ in range(4)])
        self.merge = nn.Conv2d(2 * channels, out_channels, 1)

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        first = self.edges[0](s0) + self.edges[1](s1)
        second = self.edges[2](s1) + self.edges[3](first)
        return self.merge(torch.cat([first, second], 1))


class Darts(nn.Module):
    def __init__(self, *, with_global: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.cells = nn.ModuleList([Cell(4, 4) for _ in range(3)])
        self.pde = GlobalLayer(4, steps=3) if with_global else nn.Identity()
        self.auxiliary = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
        self.classifier = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            s0, s1 = s1, self.pde(cell(s0, s1))
        return self.classifier(s1.mean((2, 3)))


@pytest.mark.parametrize(("with_global", "blocks"), [(False, 3), (True, 4)])
def test_a_cell_is_one_block_and_so_is_a_pde_layer(with_global: bool, blocks: int) -> None:
    model = Darts(with_global=with_global)
    assert depth_blocks(model, (3, 8, 8)) == blocks
    assert depth_blocks(Wrapper(model), (3, 8, 8)) == blocks


def test_the_longest_path_through_a_cell() -> None:
    """Stem, three cells with two operations of four in a row and a merge, classifier."""
    assert depth_layers(Darts(with_global=False), (3, 8, 8)) == 1 + 3 * (2 * 4 + 1) + 1
    assert depth_layers(Darts(with_global=True), (3, 8, 8)) == 1 + 3 * (2 * 4 + 1 + 1) + 1


class Stage(nn.Module):
    def __init__(self, block: Callable[[], nn.Module], count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([block() for _ in range(count)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_a_stage_of_its_own_class_is_looked_through_until_one_block_is_left() -> None:
    size = (4, 8, 8)
    full = nn.Sequential(*(Stage(lambda: Operation(4), 3) for _ in range(2)))
    control = nn.Sequential(*(Stage(lambda: Operation(4), 1) for _ in range(2)))
    assert (depth_blocks(full, size), depth_blocks(control, size)) == (6, 2)
    for stage in control:
        stage.blocks.append(GlobalLayer(4))
    assert depth_blocks(control, size) == 4


def test_a_head_and_a_stem_of_several_layers_are_no_blocks() -> None:
    class Stem(Operation):
        pass

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x.mean((2, 3))))

    model = nn.Sequential(Stem(4), Operation(4), Operation(4), Head())
    assert depth_blocks(model, (4, 8, 8)) == 2
    assert depth_blocks(nn.Sequential(Stem(4), nn.Flatten()), (4, 8, 8)) == 1


def test_a_block_that_never_runs_does_not_count() -> None:
    model = nn.Sequential(Operation(4), Operation(4))
    model.add_module("spare", nn.ModuleList([Operation(4)]))
    model.forward = lambda x: model[1](model[0](x))  # type: ignore[method-assign]
    assert depth_blocks(model, (4, 8, 8)) == 2


def test_a_pde_layer_counts_its_init_block_and_one() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), GlobalLayer(4))
    with_init = nn.Sequential(nn.Conv2d(3, 4, 1), GlobalLayer(4, init="basic"))
    assert depth_layers(plain, (3, 8, 8)) == 2
    assert depth_layers(with_init, (3, 8, 8)) == 1 + 2 + 1
    assert depth_blocks(with_init, (3, 8, 8)) == 1


def test_depth_follows_in_place_operations_and_products_of_signals_are_no_layers() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
            self.matrix = nn.Parameter(torch.ones(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            y = torch.zeros_like(x)
            y[:, :, 1:] = self.second(self.first(x))[:, :, 1:]  # into a view of y
            y.relu_()
            return (y @ y.transpose(2, 3)) @ self.matrix  # a signal's product, then a layer

    assert depth_layers(Net(), (2, 4, 4)) == 3


def test_hooks_are_gone_afterwards(small: nn.Module) -> None:
    small.append(GlobalLayer(4))
    depth_blocks(small[:4], (3, 8, 8))
    depth_layers(small[:4], (3, 8, 8))
    hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in small.modules()]
    assert not any(after or before for after, before in hooks)


def test_time_steps_are_named() -> None:
    model = nn.Sequential(GlobalLayer(2, steps=3), nn.ReLU(), GlobalLayer(2))
    assert pde_steps(model) == (3, 1)
    assert pde_steps(nn.Linear(1, 1)) == ()
