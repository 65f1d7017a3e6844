"""What a model costs: parameters, arithmetic, depth, latency, accuracy, each with its convention.

Every number has its own file, and its convention is the head of that file. Counting runs a model
on one image and leaves it exactly as it was.
"""

from condense.measurement.block_depth import depth_blocks
from condense.measurement.cost import Measurement, measure
from condense.measurement.elementwise import count_elementwise
from condense.measurement.latency import Latency, LatencyTable, Runtime, measure_latency
from condense.measurement.layer_depth import depth_layers
from condense.measurement.machine import environment
from condense.measurement.macs import MacCount, count_macs
from condense.measurement.macs_paper import count_macs_paper
from condense.measurement.macs_thop import count_macs_thop
from condense.measurement.params import count_params
from condense.measurement.pde_steps import pde_steps
from condense.measurement.timing import Timing, interleave, ratio_interval
from condense.measurement.top1 import Accuracy, accuracy

__all__ = [
    "Accuracy",
    "Latency",
    "LatencyTable",
    "MacCount",
    "Measurement",
    "Runtime",
    "Timing",
    "accuracy",
    "count_elementwise",
    "count_macs",
    "count_macs_paper",
    "count_macs_thop",
    "count_params",
    "depth_blocks",
    "depth_layers",
    "environment",
    "interleave",
    "measure",
    "measure_latency",
    "pde_steps",
    "ratio_interval",
]
