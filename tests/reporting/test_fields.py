"""Pictures of what Global layers do: of these weights, on this image, and right side up."""

import base64
import io
import re
from copy import deepcopy
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers import GlobalLayer
from condense.models import create
from condense.reporting.fields import backbones_svg, fields_of, fields_svg
from condense.reporting.raster import Panel, Section, colours, maps_svg

IMAGE = re.compile(r'href="data:image/png;base64,([^"]+)"')
ARROWS = re.compile(r'class="arrows"[^>]* d="([^"]*)"')


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return create("mnist10_global").eval()


@pytest.fixture
def digit() -> Tensor:
    """A bright corner, normalised."""
    image = torch.zeros(1, 1, 28, 28)
    image[:, :, 4:14, 6:10] = 2.0
    image[:, :, 4:8, 6:20] = 2.0
    return image


def pixels(svg: str) -> list[Tensor]:
    pictures = (Image.open(io.BytesIO(base64.b64decode(text))) for text in IMAGE.findall(svg))
    return [torch.from_numpy(np.array(picture.convert("RGB"))) for picture in pictures]


def drawn(network: nn.Module, image: Tensor) -> str:
    found = fields_svg(network, image)
    assert found is not None
    return found


def test_fields_are_the_layers_own(network: nn.Module, digit: Tensor) -> None:
    (found,) = fields_of(network, digit)
    backbone = network.backbone_global
    with torch.no_grad():
        h, f = backbone.initial_state(digit)
        c = backbone.coefficients(h, f)
        torch.testing.assert_close(found.after, backbone.evolve(h, f, c)[0, 0])
        torch.testing.assert_close(found.output, backbone(digit)[0, 0])
    torch.testing.assert_close(found.source, f[0, 0])
    assert (found.layer, found.steps, found.channels) == ("backbone_global", 5, 1)
    assert torch.equal(found.diff_x, torch.ones(28, 28))


def test_the_terms_are_the_right_side_of_the_equation() -> None:
    """On smooth periodic waves, against derivatives written out."""
    torch.manual_seed(0)
    layer = GlobalLayer(1, steps=0, scheme="conservative").double().eval()
    angle = 2 * torch.pi * torch.arange(64).double() / 64
    wave = (2 + torch.sin(angle)[:, None] * torch.cos(angle)[None])[None, None]
    (found,) = fields_of(nn.Sequential(layer), wave)
    with torch.no_grad():
        h, f = layer.initial_state(wave)
        c = layer.coefficients(h, f)
    u, v = c.u[0, 0], c.v[0, 0]
    (rows, columns) = ((g.roll(-1, 0) - g.roll(1, 0)) / 2 for g in (u * h[0, 0], (v * h[0, 0]).T))
    torch.testing.assert_close(found.advection, -(rows + columns.T))
    step = float(angle[1])
    expected = (c.diff_x + c.diff_y)[0, 0] * (2 - wave[0, 0]) * step**2
    torch.testing.assert_close(found.diffusion, expected, atol=1e-5, rtol=2e-3)


def test_the_reference_scheme_carries_against_its_velocity() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 8, 8)
    carried = {}
    for scheme in ("reference", "conservative"):
        torch.manual_seed(1)
        layer = GlobalLayer(3, scheme=scheme)  # type: ignore[arg-type]
        (found,) = fields_of(nn.Sequential(layer), image)
        carried[scheme] = found.carried
    assert float(carried["reference"].max()) <= 0 <= float(carried["conservative"].min())
    torch.testing.assert_close(carried["reference"], -carried["conservative"])


def test_the_channel_that_varies_most_is_shown() -> None:
    torch.manual_seed(0)
    layer = GlobalLayer(4)
    with torch.no_grad():
        layer.coefficients.conv_u.weight[2] *= 100
    (found,) = fields_of(nn.Sequential(layer), torch.randn(1, 4, 8, 8))
    assert (found.channel, found.channels) == (2, 4)


def test_the_picture_depends_on_each_weight(network: nn.Module, digit: Tensor) -> None:
    before = drawn(network, digit)
    assert drawn(network, digit) == before
    for name in ("conv_f", "conv_g"):
        other = deepcopy(network)
        with torch.no_grad():
            getattr(other.backbone_global, name).weight[0, 0, 0, 0] += 1.0
        assert pixel_changes(before, drawn(other, digit)) > 3
    other = deepcopy(network)
    with torch.no_grad():
        other.backbone_global.bn_out.weight += 1.0
        other.backbone_global.bn_out.bias -= 0.5
    assert pixel_changes(before, drawn(other, digit)) == 1, "the feature map alone"
    assert ARROWS.findall(before) != ARROWS.findall(changed_velocity(network, digit))


def changed_velocity(network: nn.Module, digit: Tensor) -> str:
    other = deepcopy(network)
    with torch.no_grad():
        other.backbone_global.conv_g.weight.neg_()
    return drawn(other, digit)


def pixel_changes(one: str, other: str) -> int:
    pairs = zip(pixels(one), pixels(other), strict=True)
    return sum(not torch.equal(left, right) for left, right in pairs)


def test_the_picture_depends_on_the_image(network: nn.Module, digit: Tensor) -> None:
    before, turned = drawn(network, digit), drawn(network, digit.flip(3))
    assert pixel_changes(before, turned) > 4
    assert ARROWS.findall(before) != ARROWS.findall(turned)


def test_the_class_of_the_image_plays_no_part(network: nn.Module, digit: Tensor) -> None:
    other = deepcopy(network)
    with torch.no_grad():
        other.fc.weight.zero_()
    assert drawn(network, digit) == drawn(other, digit)


def test_drawing_leaves_the_network_as_it_was(network: nn.Module, digit: Tensor) -> None:
    network.train()
    before = deepcopy(network.state_dict())
    drawn(network, digit)
    assert all(module.training for module in network.modules())
    torch.testing.assert_close(dict(network.state_dict()), dict(before), atol=0, rtol=0)
    assert not network.backbone_global._forward_pre_hooks


def test_every_global_layer_is_drawn() -> None:
    torch.manual_seed(0)
    network = create("resnet_tiny_global")
    svg = drawn(network, torch.randn(1, 3, 32, 32))
    root = ElementTree.fromstring(svg)
    titles = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert sum(", channel " in (title or "") for title in titles) == 3
    assert titles.count("diffusion Dx (rows)") == 3
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", ""), "it needs nothing else"


def test_no_layer_no_picture() -> None:
    assert fields_svg(create("resnet20"), torch.zeros(1, 3, 32, 32)) is None
    with pytest.raises(ValueError, match=r"expected one image \(1, C, H, W\)"):
        fields_of(create("mnist10_global"), torch.zeros(2, 1, 28, 28))


def test_the_three_backbones_side_by_side(digit: Tensor) -> None:
    torch.manual_seed(0)
    kinds = ("convolution", "residual", "global")
    models = {kind: create(f"mnist10_{kind}").eval() for kind in kinds}
    svg = backbones_svg(models, digit, title="feature maps")
    found = pixels(svg)
    assert len(found) == 4
    assert not any(torch.equal(found[0], other) for other in found[1:])
    with pytest.raises(ConfigError, match="resnet20 has no backbone"):
        backbones_svg({"resnet20": create("resnet20")}, digit, title="")


def test_colours() -> None:
    signed = colours(torch.tensor([[-2.0, 0.0, 2.0, 1.0]]), is_signed=True)[0].tolist()
    assert signed[:3] == [[33, 102, 172], [247, 247, 247], [178, 24, 43]]
    assert signed[3] == [212, 136, 145], "half way from white to red"
    ink = colours(torch.tensor([[1.0, 3.0, 2.0]]), is_signed=False)[0].tolist()
    assert ink == [[247] * 3, [8] * 3, [128] * 3]
    faint = colours(torch.tensor([[0.0, 1.0]]), is_signed=False, ink=0.5)[0].tolist()
    assert faint == [[247] * 3, [128] * 3]
    assert colours(torch.zeros(2, 2), is_signed=True).unique().tolist() == [247]
    assert colours(torch.full((1, 1), float("nan")), is_signed=True).tolist() == [[[247] * 3]]


def test_arrows_point_down_and_to_the_right() -> None:
    vectors = torch.zeros(2, 4, 4)
    vectors[0, 1, 2], vectors[1, 3, 0] = 1.0, 1.0
    svg = maps_svg([Section("one", [[Panel("map", torch.zeros(4, 4), arrows=vectors)]])])
    (path,) = ARROWS.findall(svg)
    shafts = re.findall(r"M([-\d.]+) ([-\d.]+)L([-\d.]+) ([-\d.]+)(?=M)", path)
    down, right = (tuple(map(float, shaft)) for shaft in shafts)
    assert down[0] == down[2] == pytest.approx(2.5 * 42)
    assert down[1] < 1.5 * 42 < down[3]
    assert right[1] == right[3] == pytest.approx(3.5 * 42)
    assert right[0] < 0.5 * 42 < right[2]


def test_short_arrows_are_left_out_and_large_maps_thinned() -> None:
    vectors = torch.ones(2, 100, 50)
    vectors[:, :50] *= 0.01
    svg = maps_svg([Section("", [[Panel("", torch.zeros(100, 50), arrows=vectors)]])])
    (path,) = ARROWS.findall(svg)
    assert path.count("M") == 2 * 13 * 12
    still = Panel("", torch.zeros(4, 4), arrows=torch.zeros(2, 4, 4))
    assert ARROWS.findall(maps_svg([Section("", [[still]])])) == [""]


def test_titles_are_escaped_and_ranges_told() -> None:
    panel = Panel("<f>", torch.tensor([[-150.2, 0.25]]))
    svg = maps_svg([Section("a & b", [[panel], [Panel("flat", torch.ones(3, 3))]])], notes="x < y")
    root = ElementTree.fromstring(svg)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["a & b", "<f>", "−150 … 0.25", "flat", "1 everywhere", "x < y"]
    assert root.get("aria-label") == "a & b: <f> −150 … 0.25, flat 1 everywhere"
