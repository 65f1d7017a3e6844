"""Eight numbers at a time, for numba: a vector type, its arithmetic, and a transposition.

Left to itself the compiler turns loops into vector code only where it can prove that it may, and
keeps no weight in a register for two rows. With vectors in the language the kernels say what they
mean, and LLVM makes of it what the processor has: one AVX register, two NEON ones, four of doubles.

Each `Vector` operation here is one or two machine instructions.
"""

import operator
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

from condense.layers.kernels import LANES


class Vector(types.Type):
    """Numba's type of `LANES` numbers of one kind."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


def array_at(address: Any, size: Any, like: Any) -> Any:
    """The `size` numbers at an address, of the type of `like`; in compiled code only."""
    raise TypeError("an address means something to compiled code only")


def instruction(build: Callable[..., Any]) -> Callable[..., Any]:
    """Make an operation of a function that types it and writes its LLVM code."""
    made: Callable[..., Any] = intrinsic(build)
    return made


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        number = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(number, LANES))  # type: ignore[no-untyped-call]


@instruction
def load(_context: Any, array: Any, _at: Any) -> Any:
    """The vector that begins at element `_at` of a flat array, aligned or not."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_address(context, builder, signature, arguments))
        value.align = array.dtype.bitwidth // 8
        return value

    return Vector(array.dtype)(array, _at), generate


@instruction
def store(_context: Any, array: Any, _at: Any, value: Any) -> Any:
    """Write a vector there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        written = builder.store(arguments[2], _address(context, builder, signature, arguments))
        written.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, _at, value), generate


@instruction
def _pointer(_context: Any, address: Any, like: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(like.dtype).as_pointer()
        return builder.inttoptr(arguments[0], kind)

    return types.CPointer(like.dtype)(address, like), generate


@overload(array_at)
def _array_at(address: Any, size: Any, like: Any) -> Any:
    def of_pointer(address: Any, size: Any, like: Any) -> Any:
        return numba.carray(_pointer(address, like), size)  # type: ignore[attr-defined]

    return of_pointer


@instruction
def splat(_context: Any, number: Any) -> Any:
    """A number in every lane."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        nothing = ir.Constant(ir.VectorType(arguments[0].type, LANES), ir.Undefined)
        first = builder.insert_element(nothing, arguments[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, nothing, _lane_numbers([0] * LANES))

    return Vector(number)(number), generate


@instruction
def fma(_context: Any, a: Any, b: Any, c: Any) -> Any:
    """A b + c, rounded once where the processor can."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = arguments[0].type
        name = f"llvm.fmuladd.v{LANES}f{a.dtype.bitwidth}"
        known = ir.FunctionType(kind, [kind, kind, kind])
        return builder.call(cgutils.get_or_insert_function(builder.module, known, name), arguments)

    return a(a, b, c), generate


@instruction
def at_least(_context: Any, a: Any, floor: Any) -> Any:
    """max(a, floor), but NaN stays NaN."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *arguments), arguments[1], arguments[0])

    return a(a, floor), generate


@instruction
def where_positive(_context: Any, condition: Any, value: Any) -> Any:
    """Value where condition > 0, zero elsewhere."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        zero = _zeros(arguments[0].type)
        return builder.select(builder.fcmp_ordered(">", arguments[0], zero), arguments[1], zero)

    return value(condition, value), generate


@instruction
def transpose(_context: Any, rows: Any) -> Any:
    """Eight vectors: the columns of the given eight."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        values = cgutils.unpack_tuple(builder, arguments[0])
        for distance, orders in _EXCHANGES:
            pairs = [(i, i + distance) for i in range(LANES) if not i & distance]
            for i, j in pairs:
                both = [
                    builder.shuffle_vector(values[i], values[j], _lane_numbers(order))
                    for order in orders
                ]
                values[i], values[j] = both
        return cgutils.pack_array(builder, [values[i] for i in _PLACES])

    return rows(rows), generate


# Within 128 bits each exchange is one instruction on x86; the last one joins halves.
_EXCHANGES = (
    (1, ([0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15])),
    (2, ([0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15])),
    (4, ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])),
)
_PLACES = (0, 2, 1, 3, 4, 6, 5, 7)  # where the exchanges leave the columns


def _lane_numbers(order: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)


def _zeros(kind: ir.VectorType) -> ir.Constant:
    return ir.Constant(kind, [0.0] * LANES)


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    number = context.get_value_type(signature.args[0].dtype)
    vectors = ir.VectorType(number, LANES).as_pointer()
    return builder.bitcast(builder.gep(array.data, [arguments[1]]), vectors)


def _binary(name: str, operation: Callable[..., Any]) -> None:
    @instruction
    def combine(_context: Any, a: Any, b: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return getattr(builder, name)(*arguments)

        return a(a, b), generate

    def implement(a: Any, b: Any) -> Any:
        def of_vectors(a: Any, b: Any) -> Any:
            return combine(a, b)

        return of_vectors if isinstance(a, Vector) and a == b else None

    overload(operation)(implement)


for _name, _operation in (
    ("fadd", operator.add),
    ("fadd", operator.iadd),
    ("fsub", operator.sub),
    ("fmul", operator.mul),
    ("fdiv", operator.truediv),
):
    _binary(_name, _operation)
