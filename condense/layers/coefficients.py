"""How a Global layer learns velocity and diffusion from the map it is given.

u = s(BN(conv_u(src)))    v = s(BN(conv_v(src)))    Dx = s(BN(conv_Dx(h)))    Dy = s(BN(conv_Dy(h)))
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers.options import (
    BlockSpec,
    build_block,
    check_choice,
    check_flag,
    check_known,
    check_number,
)
from condense.layers.schemes import Coefficients


@dataclass(frozen=True, slots=True, kw_only=True)
class CoefficientOptions:
    """Where the coefficients of the equation come from.

    Args:
        velocity: Block of `BLOCKS` that stands for conv_u and conv_v: its name, or a mapping with
            `block` and its options.
        diffusion: The same for conv_Dx and conv_Dy; or a number, a constant Dx = Dy without
            convolutions; or two numbers, Dx and Dy.
        bias: Depthwise convolutions (those given by name only) have a bias.
        product: u = v = s(a s(b)), where a and b are the two normalised convolutions; the same
            for Dx = Dy.
        velocity_from: src: the initial state h, or the input f.

    Raises:
        ConfigError: If a value is not one of these.
    """

    velocity: BlockSpec = "depthwise"
    diffusion: BlockSpec | float | list[float] | tuple[float, float] = "depthwise"
    bias: bool = False
    product: bool = False
    velocity_from: Literal["h", "f"] = "h"

    def __post_init__(self) -> None:
        check_flag("bias", self.bias)
        check_flag("product", self.product)
        check_choice("velocity_from", self.velocity_from, ("h", "f"))
        for number in self.constant_diffusion or ():
            check_number("diffusion", number, is_strict=False)

    @property
    def constant_diffusion(self) -> tuple[float, float] | None:
        """Dx and Dy, if they are numbers."""
        given = self.diffusion
        if isinstance(given, str | Mapping):
            return None
        if isinstance(given, int | float):
            return given, given
        if not isinstance(given, list | tuple) or len(given) != 2:
            raise ConfigError(f"diffusion must be one number or two, got {given!r}")
        return given[0], given[1]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CoefficientOptions":
        """From plain values.

        Raises:
            ConfigError: For a key that does not exist, naming the nearest.
        """
        check_known(values, (field.name for field in fields(cls)), "coefficients")
        return cls(**values)


class CoefficientMaps(nn.Module):
    """The coefficients u, v, Dx, Dy as functions of the state and the source.

    Args:
        channels: C.
        options: Which blocks make them.
        eps: Of their BatchNorms.
        activation: s.

    Shape:
        h and f, both (N, C, H, W) -> `Coefficients` of (N, C, H, W); constants are (1, 1, H, W).
    """

    def __init__(
        self, channels: int, options: CoefficientOptions, *, eps: float, activation: nn.Module
    ) -> None:
        super().__init__()
        self.options = options
        self.activation = activation
        self.conv_u = self._block(options.velocity, channels)
        self.bn_u = nn.BatchNorm2d(channels, eps=eps)
        self.conv_v = self._block(options.velocity, channels)
        self.bn_v = nn.BatchNorm2d(channels, eps=eps)
        if isinstance(options.diffusion, str | Mapping):
            self.conv_diff_x = self._block(options.diffusion, channels)
            self.bn_diff_x = nn.BatchNorm2d(channels, eps=eps)
            self.conv_diff_y = self._block(options.diffusion, channels)
            self.bn_diff_y = nn.BatchNorm2d(channels, eps=eps)

    def forward(self, h: Tensor, f: Tensor) -> Coefficients:
        source = f if self.options.velocity_from == "f" else h
        velocity = self._activate(self.bn_u(self.conv_u(source)), self.bn_v(self.conv_v(source)))
        return Coefficients(*velocity, *self._diffusion(h))

    def _diffusion(self, h: Tensor) -> tuple[Tensor, Tensor]:
        if constant := self.options.constant_diffusion:
            shape = (1, 1, h.shape[2], h.shape[3])
            return h.new_full(shape, constant[0]), h.new_full(shape, constant[1])
        return self._activate(
            self.bn_diff_x(self.conv_diff_x(h)), self.bn_diff_y(self.conv_diff_y(h))
        )

    def _activate(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        if self.options.product:
            both = self.activation(a * self.activation(b))
            return both, both
        return self.activation(a), self.activation(b)

    def _block(self, spec: BlockSpec, channels: int) -> nn.Module:
        if spec == "depthwise":
            spec = {"block": "depthwise", "bias": self.options.bias}
        return build_block(spec, channels)
