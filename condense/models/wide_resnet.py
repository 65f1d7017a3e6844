"""Wide ResNets as the Global-layer paper trains them, without and with Global layers.

Post-activation BasicBlocks with 1x1 projections, and a stem as wide as the first stage; the
textbook's WRN-40-4 has pre-activation blocks behind a stem of 16 channels (8,972,340 parameters
for 100 classes).

S. Zagoruyko, N. Komodakis: Wide Residual Networks, BMVC 2016.
A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
"""

from functools import partial

from condense.models.global_resnet import global_resnet
from condense.models.projection_resnet import projection_resnet, register

_WIDE, _TINY, _TINY_GLOBAL = (64, 128, 256), (8, 8, 8), (16, 20, 20)

register(
    "wrn",
    partial(projection_resnet, 6, widths=_WIDE),
    "Wide-ResNet: widths 16, 32, 64 times 4, m=6 (not the textbook's WRN-40-4)",
)
register(
    "wrn_global",
    partial(global_resnet, 5, widths=_WIDE, init="basic", bias=True),
    "Wide-ResNet-Global: m=5, a BasicBlock as init block, biased coefficients",
)
register(
    "wrn_tiny",
    partial(projection_resnet, 6, widths=_TINY),
    "the tiny Wide-ResNet: widths 2, 2, 2 times 4, m=6",
)
register(
    "wrn_tiny_global",
    partial(global_resnet, 1, widths=_TINY_GLOBAL, bias=True),
    "the tiny Wide-ResNet-Global: widths 4, 5, 5 times 4, m=1, biased coefficients",
)
