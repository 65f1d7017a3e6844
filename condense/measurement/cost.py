"""All of a model's numbers at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from condense.measurement.block_depth import depth_blocks
from condense.measurement.elementwise import count_elementwise
from condense.measurement.latency import Latency, Runtime, measure_latency
from condense.measurement.layer_depth import depth_layers
from condense.measurement.macs import count_macs
from condense.measurement.macs_paper import count_macs_paper
from condense.measurement.macs_thop import count_macs_thop
from condense.measurement.params import count_params
from condense.measurement.pde_steps import pde_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a model costs. Each number's convention is stated in the file that counts it.

    Args:
        params: Learnable scalars.
        macs: Multiply–accumulates of one image, operator by operator.
        macs_paper: The same by the papers' convention.
        macs_thop: The same by the installed thop.
        elementwise_ops: Elementwise operations of one image.
        depth_blocks: The papers' depth; a PDE layer is one.
        depth_layers: Weighted layers on the longest path.
        pde_steps: K of each PDE layer.
        latency: By runtime, one for each batch size; empty if it was not measured.
        uncounted: Operators that neither `macs` nor `elementwise_ops` has a rule for, with the
            values that they gave.
    """

    params: int
    macs: int
    macs_paper: int
    macs_thop: int
    elementwise_ops: int
    depth_blocks: int
    depth_layers: int
    pde_steps: tuple[int, ...]
    uncounted: dict[str, int]
    latency: dict[str, list[Latency]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by the report's JSON keys."""
        return {
            "params": self.params,
            "macs": self.macs,
            "macs_paper": self.macs_paper,
            "macs_thop": self.macs_thop,
            "elementwise_ops": self.elementwise_ops,
            "depth_blocks": self.depth_blocks,
            "depth_layers": self.depth_layers,
            "pde_steps": list(self.pde_steps),
            "latency": {
                runtime: [record.to_dict() for record in records]
                for runtime, records in self.latency.items()
            },
            "uncounted": dict(self.uncounted),
        }


def measure(  # noqa: PLR0913 - one keyword per condition of a measurement
    model: nn.Module,
    input_size: Sequence[int],
    *,
    latency: bool = True,
    runtimes: Sequence[Runtime] = ("torch",),
    batch_sizes: Sequence[int] = (1,),
    repeats: int = 20,
) -> Measurement:
    """Count and time one model; it is left exactly as it was.

    To compare models' latencies use `measure_latency`, which lets them take turns.

    Args:
        model: Any module that takes (N, C, H, W).
        input_size: (C, H, W).
        latency: Whether to time it too.
        runtimes: Of the latency.
        batch_sizes: Of the latency.
        repeats: Rounds of the latency.

    Raises:
        ConfigError: If the input size or a runtime is none.
    """
    macs = count_macs(model, input_size)
    times: dict[str, list[Latency]] = {}
    if latency:
        times = measure_latency(
            {"model": model},
            input_size,
            runtimes=runtimes,
            batch_sizes=batch_sizes,
            repeats=repeats,
        )["model"]
    return Measurement(
        params=count_params(model),
        macs=macs.total,
        macs_paper=count_macs_paper(model, input_size),
        macs_thop=count_macs_thop(model, input_size),
        elementwise_ops=count_elementwise(model, input_size),
        depth_blocks=depth_blocks(model, input_size),
        depth_layers=depth_layers(model, input_size),
        pde_steps=pde_steps(model),
        uncounted=macs.uncounted,
        latency=times,
    )
