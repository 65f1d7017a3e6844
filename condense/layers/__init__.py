"""The PDE layers: the heart of condense. Look layers up here, where `LAYERS` is complete."""

from condense.layers.authors import authors_options, from_authors
from condense.layers.blocks import BasicBlock, BasicDense, Bottleneck
from condense.layers.coefficients import CoefficientOptions
from condense.layers.darts import DartsCell, FactorizedReduce
from condense.layers.global_layer import GlobalLayer
from condense.layers.inverted_residual import InvertedResidual, SqueezeExcite, SqueezeOptions
from condense.layers.linear_mix import LinearMix, MixedConv
from condense.layers.mobilenet import Connect, MobileNetStep
from condense.layers.options import build_layer
from condense.layers.reaction_diffusion import (
    CirculantReactionDiffusion,
    ExplicitReactionDiffusion,
    ImplicitReactionDiffusion,
)
from condense.layers.schemes import Coefficients, Scheme, evolve
from condense.layers.stability import Stability
from condense.layers.stencil import Boundary, Grid
from condense.layers.tables import ACTIVATIONS, BLOCKS, LAYERS

__all__ = [
    "ACTIVATIONS",
    "BLOCKS",
    "LAYERS",
    "BasicBlock",
    "BasicDense",
    "Bottleneck",
    "Boundary",
    "CirculantReactionDiffusion",
    "CoefficientOptions",
    "Coefficients",
    "Connect",
    "DartsCell",
    "ExplicitReactionDiffusion",
    "FactorizedReduce",
    "GlobalLayer",
    "Grid",
    "ImplicitReactionDiffusion",
    "InvertedResidual",
    "LinearMix",
    "MixedConv",
    "MobileNetStep",
    "Scheme",
    "SqueezeExcite",
    "SqueezeOptions",
    "Stability",
    "authors_options",
    "build_layer",
    "evolve",
    "from_authors",
]
