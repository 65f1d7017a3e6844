"""One run of a model, written down: every module call, every operator, every tensor they pass on.

A tensor is known by its storage, how often that storage had been written to, and its layout in
it. So an in-place operator makes a new value, and two views of the same memory are one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from condense.analysis.failures import describe_failure
from condense.measurement.macs import RULES
from condense.measurement.observe import OperatorMode, evaluating, plain_name, random_images


@dataclass(frozen=True, slots=True)
class Value:
    """The content of a tensor at one time.

    Args:
        storage: Number of the memory that it lies in.
        version: How many operators had written there before.
        layout: Offset, shape and strides in that memory.
    """

    storage: int
    version: int
    layout: tuple[int, tuple[int, ...], tuple[int, ...]]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout[1]

    @property
    def content(self) -> tuple[int, int]:
        """What all views of the same memory at the same time share."""
        return self.storage, self.version


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator that ran.

    Args:
        name: Without in-place mark and overload.
        arguments: What it was given, in order: values, and all else as text.
        results: What came out.
        macs: Multiply–accumulates.
    """

    name: str
    arguments: tuple[Value | str, ...]
    results: tuple[Value, ...]
    macs: int

    @property
    def reads(self) -> tuple[Value, ...]:
        return tuple(leaf for leaf in self.arguments if isinstance(leaf, Value))


@dataclass(slots=True, eq=False)
class Call:
    """One call of a module.

    Args:
        name: The module's first name in the model.
        module: What was called.
        parent: The call that it was made in; None for the model itself.
        inputs: Tensors among the arguments.
        only_positional_tensors: Whether there was nothing else among the arguments.
        start: Index of its first operator.
        end: Index after its last operator.
        outputs: Tensors that it gave back.
        gave_tensor: Whether it gave back a tensor, not a collection of them.
        children: Calls made inside it.
    """

    name: str
    module: nn.Module
    parent: "Call | None"
    inputs: tuple[Value, ...]
    only_positional_tensors: bool
    start: int
    end: int = -1
    outputs: tuple[Value, ...] = ()
    gave_tensor: bool = False
    children: list["Call"] = field(default_factory=list)

    def overlaps(self, other: "Call") -> bool:
        """Whether the two ran at the same time, one inside the other."""
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Trace:
    """What a model did with one image.

    Args:
        calls: In the order in which they began; the model's own is the first.
        operations: In the order in which they ran.
        weights: Storages of parameters and buffers.
        births: Index of the operator that made a content; -1 for the image.
        uses: For each storage, the operators that read it, and at which version.
        outputs: Contents that the model gave back.
    """

    calls: tuple[Call, ...]
    operations: tuple[Operation, ...]
    weights: frozenset[int]
    births: dict[tuple[int, int], int]
    uses: dict[int, list[tuple[int, int]]]
    outputs: frozenset[tuple[int, int]]

    def inside(self, call: Call) -> tuple[Operation, ...]:
        """The operators that ran in a call."""
        return self.operations[call.start : call.end]


def trace(model: nn.Module, input_size: Sequence[int]) -> Trace:
    """Run the model once on noise, in eval mode, and leave it as it was.

    Args:
        model: Any module that takes one batch of images.
        input_size: (C, H, W).

    Raises:
        CondenseError: If the model does not run on such an image.
    """
    image = random_images(model, input_size)
    recorder = _Recorder(model, image)
    try:
        with evaluating(model), _hooked(model, recorder), recorder:
            output = model(image)
    except Exception as error:  # whatever a foreign model raises on an image that it cannot take
        stack = [(call.name, call.module) for call in recorder.stack]
        raise describe_failure(error, stack, model, input_size) from error
    contents = frozenset(recorder.value(leaf).content for leaf in _tensors(output))
    return Trace(
        tuple(recorder.calls),
        tuple(recorder.operations),
        recorder.weights,
        recorder.births,
        recorder.uses,
        contents,
    )


class _Recorder(OperatorMode):
    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.stack: list[Call] = []
        self.operations: list[Operation] = []
        self.births: dict[tuple[int, int], int] = {}
        self.uses: dict[int, list[tuple[int, int]]] = {}
        self._versions: dict[int, int] = {}
        self._kept: list[Tensor] = []  # memory that is freed could come back under the same number
        self._names = {module: name for name, module in model.named_modules()}
        stored = [*model.parameters(), *model.buffers()]
        self.weights = frozenset(tensor.untyped_storage()._cdata for tensor in stored)
        self.births[self.value(image).content] = -1

    def value(self, tensor: Tensor) -> Value:
        storage = tensor.untyped_storage()._cdata
        layout = (int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))
        return Value(storage, self._versions.get(storage, 0), layout)

    def see(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        index = len(self.operations)
        leaves = tree_leaves((args, kwargs))
        self._kept += _tensors((args, kwargs, result))
        arguments = tuple(
            self.value(leaf) if isinstance(leaf, Tensor) else repr(leaf) for leaf in leaves
        )
        for value in arguments:
            if isinstance(value, Value):
                self.uses.setdefault(value.storage, []).append((index, value.version))
        for tensor in _written(op, args, kwargs):
            storage = tensor.untyped_storage()._cdata
            self._versions[storage] = self._versions.get(storage, 0) + 1
            self.births[self.value(tensor).content] = index
        results = tuple(self.value(leaf) for leaf in _tensors(result))
        for value in results:
            self.births.setdefault(value.content, index)
        macs = _macs(op, args, kwargs, result)
        self.operations.append(Operation(plain_name(op), arguments, results, macs))

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if leaf is not None]
        plain = not kwargs and len(args) == len(given) == len(_tensors(args))
        parent = self.stack[-1] if self.stack else None
        inputs = tuple(self.value(leaf) for leaf in given if isinstance(leaf, Tensor))
        call = Call(self._names[module], module, parent, inputs, plain, len(self.operations))
        if parent is not None:
            parent.children.append(call)
        self.calls.append(call)
        self.stack.append(call)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del module, args
        call = self.stack.pop()
        self._kept += _tensors(output)
        call.end = len(self.operations)
        call.outputs = tuple(self.value(leaf) for leaf in _tensors(output))
        call.gave_tensor = isinstance(output, Tensor)


@contextmanager
def _hooked(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(recorder.enter, with_kwargs=True))
        handles.append(module.register_forward_hook(recorder.leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _written(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    for place, argument in enumerate(op._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            yield from _tensors(given)


def _macs(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    packet = op._overloadpacket
    if packet in RULES:
        shapes = (value.shape if isinstance(value, Tensor) else value for value in args)
        return RULES[packet](*shapes) // 2
    rule = flop_registry.get(packet)
    return int(rule(*args, **kwargs, out_val=result)) // 2 if rule else 0


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
