"""From a model to its stages."""

from collections.abc import Sequence

from torch import nn

from condense.analysis.blocks import Block
from condense.analysis.chains import Chain, find_chains
from condense.analysis.stages import Stage, Stages, Totals
from condense.analysis.trace import Trace, trace
from condense.analysis.verdicts import gather_facts
from condense.measurement import count_params


def analyze(model: nn.Module, input_size: Sequence[int]) -> Stages:
    """Find where a model repeats itself at one resolution.

    Args:
        model: Run once, on noise, in eval mode; left as it was.
        input_size: (C, H, W) of one image.

    Returns:
        The stages, with a reason for each that cannot be converted; latencies are not measured yet.

    Raises:
        CondenseError: If the model does not run on such an image.

    Example:
        >>> from condense.models import create
        >>> [stage.name for stage in analyze(create("resnet20"), (3, 32, 32))]
        ['layer1', 'layer2', 'layer3']
    """
    run = trace(model, input_size)
    chains = find_chains(gather_facts(model, run))
    totals = Totals(params=count_params(model), macs=sum(item.macs for item in run.operations))
    channels, height, width = input_size
    size = (channels, height, width)
    return Stages(
        input_size=size,
        stages=tuple(_stage(chain, model, run, size) for chain in chains),
        totals=totals,
    )


def _stage(chain: Chain, model: nn.Module, run: Trace, input_size: tuple[int, int, int]) -> Stage:
    blocks = tuple(block.name for block in chain.blocks)
    return Stage(
        name=_name(blocks, model),
        blocks=blocks,
        repeats=tuple(block.name for block in chain.repeats),
        in_shape=chain.blocks[0].in_shape,
        out_shape=chain.blocks[-1].out_shape,
        input_size=input_size,
        params=count_params(nn.ModuleList(block.call.module for block in chain.blocks)),
        macs=sum(_macs(block, run) for block in chain.blocks),
        convertible=chain.reason is None,
        reason=chain.reason,
    )


def _name(blocks: tuple[str, ...], model: nn.Module) -> str:
    """The container that holds just these blocks, if there is one; else the first block."""
    container = blocks[0].rpartition(".")[0]
    if container:
        held = {
            f"{container}.{name}" for name, _ in model.get_submodule(container).named_children()
        }
        if held == set(blocks):
            return container
    return blocks[0]


def _macs(block: Block, run: Trace) -> int:
    return sum(item.macs for item in run.inside(block.call))
