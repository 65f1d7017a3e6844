"""Why a block can, or cannot, be taken out of its chain without anything else noticing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from condense.analysis.blocks import Block
from condense.analysis.trace import Call, Trace


@dataclass(frozen=True, slots=True)
class Facts:
    """What has to be known of the whole model to judge one block.

    Args:
        trace: The run.
        calls: How often each module was called.
        holders: For each parameter, by identity, the modules that hold it.
    """

    trace: Trace
    calls: Counter[nn.Module]
    holders: dict[int, set[nn.Module]]


def gather_facts(model: nn.Module, trace: Trace) -> Facts:
    """Count calls and see who holds which parameter."""
    holders: dict[int, set[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), set()).add(module)
    return Facts(trace, Counter(call.module for call in trace.calls), holders)


def objection(block: Block, before: Block | None, facts: Facts) -> str | None:
    """Why `block` is not a plain repeat, as a clause; None if it is one.

    Args:
        block: What would be removed.
        before: The block that gives it its input, if it is known.
        facts: About the model.
    """
    return (
        _misshapen(block)
        or _not_alone(block, facts)
        or _inaccessible(block, facts.trace)
        or _tapped(block, before, facts.trace)
    )


def is_on_trunk(block: Block, trace: Trace) -> bool:
    """Whether all later work depends on earlier work through this block's input only."""
    born = block.call.start
    for storage, uses in trace.uses.items():
        if storage == block.source.storage or storage in trace.weights:
            continue
        for index, version in uses:
            birth = trace.births.get((storage, version))
            if index >= born and birth is not None and birth < born:
                return False
    return True


def _misshapen(block: Block) -> str | None:
    return _not_a_map(block) or _reshaping(block)


def _not_a_map(block: Block) -> str | None:
    call = block.call
    if len(call.inputs) > 1:
        return f"{block.name} takes {len(call.inputs)} tensors, not one feature map"
    if not call.only_positional_tensors:
        return f"{block.name} takes other arguments beside its feature map"
    if not call.gave_tensor:
        return f"{block.name} gives back a collection of tensors, not one feature map"
    if len(block.source.shape) != 4 or len(block.result.shape) != 4:
        shape = "x".join(str(size) for size in block.out_shape)
        return f"{block.name} gives {shape} values for an image, not a feature map (C, H, W)"
    return None


def _reshaping(block: Block) -> str | None:
    if not block.spatial:
        return f"{block.name} holds no spatial convolution"
    if block.in_shape != block.out_shape:
        shapes = ["x".join(str(size) for size in s) for s in (block.in_shape, block.out_shape)]
        return f"{block.name} changes the shape from {shapes[0]} to {shapes[1]}"
    *_, height, width = block.in_shape
    seen = block.map_sizes
    if (height, width) not in seen and block.in_shape[:2] in seen:
        return f"{block.name} keeps its channels last: its map is (H, W, C)"
    return None


def _not_alone(block: Block, facts: Facts) -> str | None:
    count = facts.calls[block.call.module]
    if count > 1:
        return f"{block.name} is called {count} times with the same weights"
    inside = set(block.call.module.modules())
    for parameter in block.call.module.parameters():
        if not facts.holders[id(parameter)] <= inside:
            return f"{block.name} shares parameters with another part of the model"
    return None


def _inaccessible(block: Block, trace: Trace) -> str | None:
    """Whether the block reads, or lets out, values behind the back of its signature."""
    own = {value.storage for value in block.call.inputs} | trace.weights
    for operation in trace.inside(block.call):
        for value in operation.reads:
            birth = trace.births.get(value.content)
            if value.storage not in own and birth is not None and birth < block.call.start:
                return f"{block.name} also reads a tensor that is not its input"
    given = {value.storage for value in block.call.outputs} | own
    for storage, uses in trace.uses.items():
        for index, version in uses:
            birth = trace.births.get((storage, version), -1)
            made_inside = block.call.start <= birth < block.call.end
            if made_inside and index >= block.call.end and storage not in given:
                return f"a value from inside {block.name} is used after it"
    if any(
        content[0] not in given
        and block.call.start <= trace.births.get(content, -1) < block.call.end
        for content in trace.outputs
    ):
        return f"a value from inside {block.name} is an output of the model"
    return None


def _tapped(block: Block, before: Block | None, trace: Trace) -> str | None:
    storage, version = block.source.content
    is_kept = storage == block.result.storage  # written in place: later versions are its output
    since = before.call.end if before else trace.births.get((storage, version), -1) + 1
    for index, seen in trace.uses.get(storage, []):
        elsewhere = since <= index < block.call.start or index >= block.call.end
        if elsewhere and (seen == version or (seen > version and not is_kept)):
            return f"the input of {block.name} is also used elsewhere"
    if (storage, version) in trace.outputs:
        return f"the input of {block.name} is also an output of the model"
    return None


def overlaps_any(call: Call, blocks: Sequence[Block]) -> bool:
    """Whether a call ran inside, or around, one of the blocks."""
    return any(call.overlaps(block.call) for block in blocks)
