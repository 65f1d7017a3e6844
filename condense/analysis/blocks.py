"""What a module call computes, whatever the module is called: its signature and its size."""

import hashlib
from dataclasses import dataclass

from condense.analysis.trace import Call, Operation, Trace, Value

WEIGHTED = frozenset(
    {"convolution", "_convolution", "addmm", "mm", "bmm", "baddbmm", "linear", "mv", "addmv"}
)
CONVOLUTIONS = frozenset({"convolution", "_convolution"})


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A module call that could be a unit of repetition.

    Args:
        call: The call.
        signature: Equal for two calls that compute the same, parameter values aside.
        operators: Names of the operators with weights or elementwise work, in order.
        weighted: Convolutions and linear maps.
        spatial: Convolutions that look beyond one pixel.
        map_sizes: Heights and widths of what these take.
    """

    call: Call
    signature: str
    operators: tuple[str, ...]
    weighted: int
    spatial: int
    map_sizes: frozenset[tuple[int, ...]]

    @property
    def name(self) -> str:
        return self.call.name

    @property
    def source(self) -> Value:
        """The value that it takes (the first, if there are several)."""
        return self.call.inputs[0]

    @property
    def result(self) -> Value:
        """The value that it gives back (the first, if there are several)."""
        return self.call.outputs[0]

    @property
    def in_shape(self) -> tuple[int, ...]:
        return self.source.shape[1:]

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.result.shape[1:]

    @property
    def is_tiny(self) -> bool:
        """One weighted layer with its normalisation and activation."""
        return self.weighted == 1

    def resembles(self, other: "Block") -> bool:
        """Whether this one does the work of the other, at another shape or width perhaps."""
        if self.operators == other.operators:
            return True
        does_as_much = self.weighted >= other.weighted and self.spatial >= other.spatial
        return not self.is_tiny and does_as_much


def candidates(trace: Trace) -> list[Block]:
    """Every call that takes and gives tensors and holds a spatial convolution or several layers.

    Of calls that wrap each other without doing anything more, only the outermost.
    """
    found = []
    for call in trace.calls[1:]:
        if call.inputs and call.outputs and call.end > call.start and not _is_wrapped(call, trace):
            block = _block(trace, call)
            if block.weighted > 1 or (block.spatial and call.children):
                found.append(block)
    return found


def lone_convolutions(trace: Trace) -> list[Block]:
    """Calls of modules that are a spatial convolution and nothing else."""
    leaves = [
        call for call in trace.calls[1:] if not call.children and call.inputs and call.outputs
    ]
    found = [_block(trace, call) for call in leaves if call.end > call.start]
    return [block for block in found if block.weighted == block.spatial == 1]


def _is_wrapped(call: Call, trace: Trace) -> bool:
    parent = call.parent
    return (
        parent is not None
        and parent is not trace.calls[0]
        and (parent.start, parent.end) == (call.start, call.end)
        and parent.inputs == call.inputs
        and parent.outputs == call.outputs
    )


def _block(trace: Trace, call: Call) -> Block:
    operations = trace.inside(call)
    weighted = [item for item in operations if _weight(trace, item) is not None]
    spatial = [item for item in weighted if _is_spatial(trace, item)]
    names = tuple(item.name for item in operations if item.name != "empty")
    sizes = frozenset(item.reads[0].shape[2:] for item in spatial)
    return Block(call, _signature(trace, call), names, len(weighted), len(spatial), sizes)


def _weight(trace: Trace, operation: Operation) -> Value | None:
    if operation.name not in WEIGHTED:
        return None
    held = [value for value in operation.reads if value.storage in trace.weights]
    return max(held, key=lambda value: len(value.shape), default=None)


def _is_spatial(trace: Trace, operation: Operation) -> bool:
    if operation.name not in CONVOLUTIONS or _weight(trace, operation) is None:
        return False
    kernel = operation.reads[1]  # computed, under weight normalisation: not itself a parameter
    return max(kernel.shape[2:], default=1) > 1


def _signature(trace: Trace, call: Call) -> str:
    """Operators, their settings, shapes, and which result goes where; hashed."""
    known: dict[Value, str] = {
        value: f"input {number} {value.shape}" for number, value in enumerate(call.inputs)
    }
    writers: dict[tuple[int, int], int] = {}
    weights: dict[int, int] = {}

    def label(value: Value) -> str:
        if value.storage in trace.weights:
            number = weights.setdefault(value.storage, len(weights))
            return f"weight {number} {value.shape} {value.layout[0]}"
        if value in known:
            return known[value]
        return f"view of {writers.get(value.content, 'outside')} {value.layout}"

    lines = []
    for number, operation in enumerate(trace.inside(call)):
        arguments = [leaf if isinstance(leaf, str) else label(leaf) for leaf in operation.arguments]
        lines.append(f"{operation.name}({', '.join(arguments)})")
        for place, value in enumerate(operation.results):
            writers[value.content] = number
            if value.storage not in trace.weights:
                known[value] = f"result {number}.{place} {value.shape}"
    lines += [label(value) for value in call.outputs]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
