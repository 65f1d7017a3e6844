"""What a Global layer does with one image, as pictures: where it carries things, what spreads.

At the layer's last state the three terms of its equation stand side by side:

    ∂H/∂t = diffusion + advection + f

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022, shows such
pictures for the MNIST-10 example.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers import Coefficients, GlobalLayer, Grid
from condense.layers.stencil import X, Y
from condense.measurement.observe import evaluating
from condense.models.mnist10 import Backbone
from condense.reporting.raster import Panel, Section, maps_svg

NOTES = "Arrows show where the state is carried; in colour, blue is below 0 and red above."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fields:
    """One channel of a Global layer on one image; every map is (H, W).

    Args:
        layer: Its name in the network.
        channel: Which, from 0: the one whose velocity varies most.
        channels: How many there are.
        steps: K.
        source: f.
        before: h(0).
        after: h(K).
        output: What the layer gives.
        carried: (2, H, W): where the scheme carries the state, down and to the right. That is
            (u, v), but (−u, −v) with the reference scheme, which solves the mirrored equation.
        diff_x: Dx, along the rows.
        diff_y: Dy, along the columns.
        diffusion: That term at h(K).
        advection: That term at h(K).
    """

    layer: str
    channel: int
    channels: int
    steps: int
    source: Tensor
    before: Tensor
    after: Tensor
    output: Tensor
    carried: Tensor
    diff_x: Tensor
    diff_y: Tensor
    diffusion: Tensor
    advection: Tensor


def fields_of(model: nn.Module, image: Tensor) -> tuple[Fields, ...]:
    """What each Global layer of a network does with an image.

    Args:
        model: In any mode; it is looked at in eval mode.
        image: Normalised as the model expects.

    Shape:
        image (1, C, H, W).
    """
    if image.ndim != 4 or len(image) != 1:
        raise ValueError(f"expected one image (1, C, H, W), got {tuple(image.shape)}")
    layers = {name: module for name, module in model.named_modules() if _evolves(module)}
    inputs = _inputs_of(layers, model, image)
    with evaluating(model):
        return tuple(_fields(name, layers[name], inputs[name]) for name in inputs)


def fields_svg(model: nn.Module, image: Tensor) -> str | None:
    """A picture of what each Global layer does with an image; None if there is no such layer.

    Args:
        model: As for `fields_of`.
        image: As for `fields_of`; shown as the mean of its channels.
    """
    found = fields_of(model, image)
    if not found:
        return None
    shown = image[0].mean(0).detach().cpu()
    return maps_svg([_section(fields, shown) for fields in found], notes=NOTES)


def backbones_svg(models: Mapping[str, nn.Module], image: Tensor, *, title: str) -> str:
    """The feature maps of several networks on one image, side by side.

    Args:
        models: Networks of the MNIST-10 example by the names to show.
        image: Normalised as they expect, (1, 1, H, W).
        title: Above them.

    Raises:
        ConfigError: If one of them is no network of the MNIST-10 example.
    """
    panels = [Panel("image", image[0].mean(0), is_signed=False, legend="")]
    for name, model in models.items():
        found = [module for module in model.modules() if isinstance(module, Backbone)]
        if not found:
            raise ConfigError(f"{name} has no backbone of the MNIST-10 example to draw")
        with evaluating(model):
            panels.append(Panel(name, torch.relu(found[0](image))[0, 0], is_signed=False))
    return maps_svg([Section(title, [panels])])


def _evolves(module: nn.Module) -> bool:
    is_backbone = isinstance(module, Backbone) and module.kind == "global"
    return is_backbone or isinstance(module, GlobalLayer)


def _inputs_of(
    layers: Mapping[str, nn.Module], model: nn.Module, image: Tensor
) -> dict[str, tuple[Tensor, ...]]:
    """What each layer is given when the image runs through the network."""
    inputs: dict[str, tuple[Tensor, ...]] = {}

    def note(name: str) -> Any:
        return lambda _, given: inputs.setdefault(name, given) and None

    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    try:
        if layers:
            with evaluating(model):
                model(image.to(next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return inputs


def _fields(name: str, layer: Any, inputs: tuple[Tensor, ...]) -> Fields:
    h, f = layer.initial_state(*inputs)
    c: Coefficients = layer.coefficients(h, f)
    after = layer.evolve(h, f, c)
    whole = Coefficients(*(field.expand_as(h) for field in c))
    speed = whole.u.square() + whole.v.square()
    channel = int(speed.flatten(2).var(2)[0].argmax())
    sign = -1.0 if layer.scheme == "reference" else 1.0
    grid: Grid = layer.grid

    def one(field: Tensor) -> Tensor:
        return field[0, channel].cpu()

    return Fields(
        layer=name,
        channel=channel,
        channels=h.shape[1],
        steps=layer.steps,
        source=one(f),
        before=one(h),
        after=one(after),
        output=one(layer(*inputs)),
        carried=sign * torch.stack([one(whole.u), one(whole.v)]),
        diff_x=one(whole.diff_x),
        diff_y=one(whole.diff_y),
        diffusion=one(_diffusion(after, whole, grid)),
        advection=one(-sign * _divergence(after, whole, grid)),
    )


def _diffusion(h: Tensor, c: Coefficients, grid: Grid) -> Tensor:
    """Dx ∂²h/∂x² + Dy ∂²h/∂y²."""
    along_x = grid.ahead(h, X) - 2 * h + grid.behind(h, X)
    along_y = grid.ahead(h, Y) - 2 * h + grid.behind(h, Y)
    return c.diff_x * along_x / grid.dx**2 + c.diff_y * along_y / grid.dy**2


def _divergence(h: Tensor, c: Coefficients, grid: Grid) -> Tensor:
    """∂(u h)/∂x + ∂(v h)/∂y by central differences."""
    uh, vh = c.u * h, c.v * h
    along_x = (grid.ahead(uh, X) - grid.behind(uh, X)) / (2 * grid.dx)
    along_y = (grid.ahead(vh, Y) - grid.behind(vh, Y)) / (2 * grid.dy)
    return along_x + along_y


def _section(fields: Fields, shown: Tensor) -> Section:
    channel = f", channel {fields.channel + 1} of {fields.channels}" if fields.channels > 1 else ""
    longest = float(fields.carried.square().sum(0).sqrt().max())
    velocity = Panel(
        "velocity, over the image",
        _resized(shown, fields.source.shape),
        is_signed=False,
        ink=0.3,
        arrows=fields.carried,
        legend=f"longest arrow {longest:.2g} neighbours per time",
    )
    panels = [Panel("source f", fields.source)]
    if not torch.equal(fields.source, fields.before):
        panels.append(Panel("h(0)", fields.before))
    panels += [
        Panel(f"h(K), K={fields.steps}", fields.after),
        *_diffusion_panels(fields),
        Panel("diffusion at h(K)", fields.diffusion),
        Panel("advection at h(K)", fields.advection),
        Panel("feature map", fields.output, is_signed=False),
    ]
    half = (len(panels) + 1) // 2
    title = f"{fields.layer or 'the layer'}{channel}"
    return Section(title, [panels[:half], panels[half:]], large=velocity)


def _diffusion_panels(fields: Fields) -> list[Panel]:
    if torch.equal(fields.diff_x, fields.diff_y):
        return [Panel("diffusion Dx = Dy", fields.diff_x)]
    return [
        Panel("diffusion Dx (rows)", fields.diff_x),
        Panel("diffusion Dy (columns)", fields.diff_y),
    ]


def _resized(values: Tensor, size: Any) -> Tensor:
    scaled: Tensor = nn.functional.interpolate(
        values[None, None].float(), tuple(size), mode="bilinear", antialias=True
    )
    return scaled[0, 0]
