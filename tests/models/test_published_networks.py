"""Every network of the two papers: exact parameters, the papers' multiply–accumulates, depth.

The numbers are the specification's, which come from building the networks of the published code.
Networks without memory for their weights: shapes are all that a count needs.
"""

import pytest
import torch
from torch import nn

from condense.checkpoint import architectures
from condense.errors import ConfigError
from condense.measurement import count_macs_paper, count_params, depth_blocks
from condense.models import MODELS, PUBLISHED, create
from condense.models.low_cost import KINDS, low_cost

COUNTS = {  # name, classes: parameters, millions of MACs, depth
    ("resnet32_projection", 10): (466_906, 69.760, 15),
    ("resnet32_projection", 100): (472_756, 69.765, 15),
    ("resnet32_global", 10): (161_850, 15.360, 7),
    ("resnet32_global", 100): (167_700, 15.365, 7),
    ("resnet32_global3", 10): (83_194, 13.997, 6),
    ("resnet32_global3", 100): (89_044, 14.002, 6),
    ("resnet32_global3_bias", 10): (83_642, 14.111, 6),
    ("resnet32_global_control", 10): (156_250, 13.926, 4),
    ("resnet32_global3_control", 10): (78_042, 12.678, 3),
    ("resnet14_projection", 10): (175_258, 26.948, 6),
    ("resnet56_projection", 100): (861_620, 126.847, 27),
    ("resnet56_global", 10): (332_602, 30.699, 11),
    ("resnet_global_large", 100): (1_326_916, 118.918, 11),
    ("resnet_tiny", 100): (13_826, 3.423, 12),
    ("resnet_tiny_global", 100): (15_923, 3.563, 7),
    ("densenet_bc", 100): (800_032, 296.551, 48),
    ("densenet_global", 100): (481_192, 136.136, 26),
    ("densenet_global_large", 100): (922_168, 247.095, 38),
    ("wrn", 100): (9_001_124, 1330.194, 18),
    ("wrn_global", 100): (9_023_524, 1335.928, 18),
    ("wrn_tiny", 100): (22_604, 9.812, 18),
    ("wrn_tiny_global", 100): (24_676, 8.667, 6),
    ("darts", 100): (3_401_272, 539.176, 20),
    ("darts_global", 100): (835_228, 213.547, 8),
    ("darts_global_large", 100): (2_405_524, 519.024, 11),
    ("darts_tiny", 100): (42_862, 7.726, 20),
    ("darts_tiny_global", 100): (40_940, 8.244, 9),
    ("mnist_resnet", 10): (576_778, 29.809, 6),
    ("mnist_ode", 10): (208_266, 100.293, 1),
    ("mnist_neupde", 10): (179_514, 47.165, 1),
    ("neural_ode", 10): (209_418, 176.4, 1),
    ("neupde", 10): (180_666, 82.0, 1),
    ("mdeq", 10): (1_076_562, 1_493.4, 2),
    ("mdeq_large", 100): (11_247_760, 7_907.4, 2),
    ("mnist_global", 10): (134_410, 13.939, 1),
    ("mnist10_convolution", 10): (524, 0.017738, 1),
    ("mnist10_residual", 10): (524, 0.019306, 1),
    ("mnist10_global", 10): (524, 0.019306, 1),
    ("torchvision:mobilenet_v2", 1000): (3_504_872, 314.194, 17),
    ("mobilenet_v2_global", 1000): (2_952_232, 245.767, 12),
    ("torchvision:mobilenet_v3_large", 1000): (5_483_032, 225.442, 15),
    ("mobilenet_v3_large_global", 1000): (3_868_160, None, 10),
    ("torchvision:efficientnet_b0", 1000): (5_288_548, 399.363, 16),
    ("efficientnet_b0_global", 1000): (3_822_932, 308.439, 12),
}
LOW_COST = {  # CIFAR-10 A and B, CIFAR-100 B and C
    "resnet": (1_555_274, 3_494_122, 3_528_772, 6_324_900),
    "linear_mix": (195_146, 421_738, 456_388, 788_900),
    "mobilenet": (101_066, 216_106, 250_756, 423_460),
    "rd_explicit": (101_066, 216_106, 250_756, 423_460),
    "rd_implicit": (101_066, 216_106, 250_756, 423_460),
    "rd_circulant": (101_066, 216_106, 250_756, 423_460),
}


def weightless(name: str, classes: int) -> tuple[nn.Module, tuple[int, int, int]]:
    options = next(dict(row.options) for row in PUBLISHED if row.name == name)
    found = architectures.find(name if ":" in name else f"condense:{name}", options)
    with torch.device("meta"):
        network = found.build(num_classes=classes).eval()
    size = found.describe(network).input_size
    assert size is not None
    return network, size


@pytest.mark.parametrize(("name", "classes"), COUNTS)
def test_counts_are_those_of_the_published_code(name: str, classes: int) -> None:
    params, millions, depth = COUNTS[name, classes]
    network, size = weightless(name, classes)
    assert count_params(network) == params
    assert depth_blocks(network, size) == depth
    if millions is not None:
        assert count_macs_paper(network, size) / 1e6 == pytest.approx(millions, rel=1e-3)


def test_every_published_row_has_its_counts_here() -> None:
    mine = {name for name, _ in COUNTS}
    rest = {row.name for row in PUBLISHED} - mine
    assert rest == {f"lowcost_{kind}_{letter}" for kind in LOW_COST for letter in "abc"}


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("kind", LOW_COST)
def test_low_cost_parameters_follow_the_formula(kind: str, column: int) -> None:
    letter, classes = (("a", 10), ("b", 10), ("b", 100), ("c", 100))[column]
    network, _ = weightless(f"lowcost_{kind}_{letter}", classes)
    assert count_params(network) == LOW_COST[kind][column]


@pytest.mark.parametrize("kind", KINDS)
def test_low_cost_networks_run_on_larger_images_too(kind: str) -> None:
    network = low_cost(kind, 10, widths=(4, 8))
    x = torch.randn(2, 3, 24, 24, requires_grad=True)
    network(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def test_widths_that_do_not_double_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"twice the one before, got \(4, 6\)"):
        low_cost("resnet", widths=(4, 6))


def test_the_kinds_of_reaction_diffusion_have_names_of_their_own() -> None:
    kinds = ("rd_explicit", "rd_implicit", "rd_circulant")
    names = [set(create(f"lowcost_{kind}_a").state_dict()) for kind in kinds]
    assert names[0] != names[1] != names[2] != names[0]


@pytest.mark.parametrize("name", ["darts_tiny", "densenet_global", "lowcost_mobilenet_a"])
def test_a_map_that_cannot_be_halved_is_named(name: str) -> None:
    side = 1 if name.startswith("lowcost") else 30
    with pytest.raises(ConfigError, match=r"even sides|cannot be halved"):
        create(name).eval()(torch.zeros(1, 3, side, side))


@pytest.mark.parametrize("name", [n for n in MODELS if "global" in n and "control" not in n])
def test_global_networks_hold_pde_layers(name: str) -> None:
    from condense.layers import GlobalLayer

    with torch.device("meta"):
        network = MODELS[name].build(num_classes=3)
    layers = [m for m in network.modules() if isinstance(m, GlobalLayer)]
    assert layers or name == "mnist10_global"
    assert all(layer.steps == 1 for layer in layers)
