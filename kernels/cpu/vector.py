"""Vector code as LLVM instructions: the few inner loops that the compiler does not vectorise well.

The costly parts of the factorisation (assembling a row's system, and its Cholesky factor) are sums over p of
outer products L[p, 0:4] x R[p, 0:16]. `add_tile` keeps such a sum in registers and reaches the speed of a
tuned GEMM on blocks far too small for a BLAS call.

All functions work on flat float32 arrays: `*_at` is where an operand begins, `*_step` the distance between
its rows; `count`, in floats, is a multiple of WIDTH. Arguments are not checked. Callable from compiled code
alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import NumbaTypeError
from numba.extending import intrinsic

HEIGHT = 4
WIDTH = 16
FAST = {"reassoc", "contract", "nsz"}  # sums may be reordered; NaN and infinity keep their meaning

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, WIDTH)
_INT = ir.IntType(64)
_ZERO = ir.Constant(_VECTOR, [0.0] * WIDTH)
_CONTRACT = ("contract",)


@intrinsic
def add_tile(  # type: ignore[no-untyped-def]
    typing,  # noqa: ARG001
    left,
    left_at,
    left_step,
    right,
    right_at,
    right_step,
    out,
    out_at,
    out_step,
    count,
    sign,
):
    """out[0:4, 0:16] += sign * sum over p < count of left[p, 0:4] (outer) right[p, 0:16]; any count."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right, out = (pointer(context, builder, signature, args, n) for n in (0, 3, 6))
        left_step, right_step, out_step, count, sign = args[2], args[5], args[8], args[9], args[10]

        def step(p: Any, sums: list[Any]) -> list[Any]:
            values = load(builder, builder.gep(right, [builder.mul(p, right_step)]))
            column = builder.gep(left, [builder.mul(p, left_step)])
            factors = [builder.load(builder.gep(column, [ir.Constant(_INT, i)])) for i in range(HEIGHT)]
            pairs = zip(factors, sums, strict=True)
            return [multiply_add(builder, splat(builder, factor), values, total) for factor, total in pairs]

        scale = splat(builder, sign)
        for i, total in enumerate(loop(builder, count, 1, [_ZERO] * HEIGHT, step)):
            row = builder.gep(out, [builder.mul(out_step, ir.Constant(_INT, i))])
            store(builder, row, multiply_add(builder, total, scale, load(builder, row)))
        return context.get_dummy_value()

    return types.void(
        left, left_at, left_step, right, right_at, right_step, out, out_at, out_step, count, sign
    ), emit


@intrinsic
def add_scaled(typing, factor, values, values_at, out, out_at, count):  # type: ignore[no-untyped-def] # noqa: ARG001
    """out += factor * values."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scale = splat(builder, args[0])
        values, out = (pointer(context, builder, signature, args, n) for n in (1, 3))

        def step(p: Any, _: list[Any]) -> list[Any]:
            at = builder.gep(out, [p])
            value = load(builder, builder.gep(values, [p]))
            store(builder, at, multiply_add(builder, scale, value, load(builder, at)))
            return []

        loop(builder, args[5], WIDTH, [], step)
        return context.get_dummy_value()

    return types.void(factor, values, values_at, out, out_at, count), emit


@intrinsic
def add_four_scaled(  # type: ignore[no-untyped-def]
    typing,  # noqa: ARG001
    first,
    second,
    third,
    fourth,
    values,
    values_at,
    values_step,
    out,
    out_at,
    count,
):
    """out += first * row 0 + second * row 1 + third * row 2 + fourth * row 3 of values."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scales = [splat(builder, scale) for scale in args[:4]]
        values, out = (pointer(context, builder, signature, args, n) for n in (4, 7))
        rows = [builder.gep(values, [builder.mul(args[6], ir.Constant(_INT, i))]) for i in range(4)]

        def step(p: Any, _: list[Any]) -> list[Any]:
            at = builder.gep(out, [p])
            total = load(builder, at)
            for scale, row in zip(scales, rows, strict=True):
                total = multiply_add(builder, scale, load(builder, builder.gep(row, [p])), total)
            store(builder, at, total)
            return []

        loop(builder, args[9], WIDTH, [], step)
        return context.get_dummy_value()

    return types.void(first, second, third, fourth, values, values_at, values_step, out, out_at, count), emit


@intrinsic
def multiply_four_rows(typing, lower, lower_at, rows, rows_at, rows_step, count):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Multiply four rows by L from the left, in place; L is lower triangular, 4 x 4 by rows at `lower_at`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lower, rows = (pointer(context, builder, signature, args, n) for n in (0, 2))
        factors = [
            [
                splat(builder, builder.load(builder.gep(lower, [ir.Constant(_INT, HEIGHT * i + j)])))
                for j in range(i + 1)
            ]
            for i in range(HEIGHT)
        ]
        places = [builder.gep(rows, [builder.mul(args[4], ir.Constant(_INT, i))]) for i in range(HEIGHT)]

        def step(p: Any, _: list[Any]) -> list[Any]:
            values = [load(builder, builder.gep(place, [p])) for place in places]
            for i, place in enumerate(places):
                total = builder.fmul(factors[i][0], values[0])
                for j in range(1, i + 1):
                    total = multiply_add(builder, factors[i][j], values[j], total)
                store(builder, builder.gep(place, [p]), total)
            return []

        loop(builder, args[5], WIDTH, [], step)
        return context.get_dummy_value()

    return types.void(lower, lower_at, rows, rows_at, rows_step, count), emit


@intrinsic
def set_scaled(typing, factor, values, values_at, out, out_at, count):  # type: ignore[no-untyped-def] # noqa: ARG001
    """out = factor * values."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scale = splat(builder, args[0])
        values, out = (pointer(context, builder, signature, args, n) for n in (1, 3))

        def step(p: Any, _: list[Any]) -> list[Any]:
            value = builder.fmul(scale, load(builder, builder.gep(values, [p])))
            store(builder, builder.gep(out, [p]), value)
            return []

        loop(builder, args[5], WIDTH, [], step)
        return context.get_dummy_value()

    return types.void(factor, values, values_at, out, out_at, count), emit


@intrinsic
def gather_row(  # type: ignore[no-untyped-def]
    typing,  # noqa: ARG001
    weight,
    target,
    values,
    values_at,
    block,
    block_at,
    scaled,
    scaled_at,
    total,
    total_at,
    count,
):
    """block = values; scaled = weight * values; total += target * values; reads once."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        weight, target = splat(builder, args[0]), splat(builder, args[1])
        values, block, scaled, total = (pointer(context, builder, signature, args, n) for n in (2, 4, 6, 8))

        def step(p: Any, _: list[Any]) -> list[Any]:
            value = load(builder, builder.gep(values, [p]))
            at = builder.gep(total, [p])
            store(builder, builder.gep(block, [p]), value)
            store(builder, builder.gep(scaled, [p]), builder.fmul(weight, value))
            store(builder, at, multiply_add(builder, target, value, load(builder, at)))
            return []

        loop(builder, args[10], WIDTH, [], step)
        return context.get_dummy_value()

    return types.void(
        weight, target, values, values_at, block, block_at, scaled, scaled_at, total, total_at, count
    ), emit


@intrinsic
def fetch_ahead(typing, values, values_at, count):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Prefetch a row of `count` floats."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = pointer(context, builder, signature, args, 0)

        def step(p: Any, _: list[Any]) -> list[Any]:
            prefetch(builder, builder.gep(values, [p]))
            return []

        loop(builder, args[2], WIDTH, [], step)
        return context.get_dummy_value()

    return types.void(values, values_at, count), emit


@intrinsic
def add_rows(typing, table, column, width, places, factors, at, step, count, out, out_at):  # type: ignore[no-untyped-def] # noqa: ARG001
    """out[0:width] += sum over p < count of factors[at + p * step] * table[places[at + p * step] + column:].

    `width` is a constant, a multiple of WIDTH; the sums stay in registers, which hold at most 64 floats.
    """
    if not isinstance(width, types.IntegerLiteral):
        raise NumbaTypeError("width must be a constant")
    num_vectors = width.literal_value // WIDTH

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table = pointer(context, builder, signature, args, 0)
        places, factors = (
            builder.gep(context.make_array(signature.args[n])(context, builder, args[n]).data, [args[5]])
            for n in (3, 4)
        )
        out = pointer(context, builder, signature, args, 8)
        parts = [builder.gep(out, [ir.Constant(_INT, n * WIDTH)]) for n in range(num_vectors)]

        def step(p: Any, sums: list[Any]) -> list[Any]:
            shift = builder.mul(p, args[6])
            row = builder.gep(table, [builder.load(builder.gep(places, [shift]))])
            scale = splat(builder, builder.load(builder.gep(factors, [shift])))
            values = (
                load(builder, builder.gep(row, [ir.Constant(_INT, n * WIDTH)])) for n in range(num_vectors)
            )
            return [multiply_add(builder, scale, v, total) for v, total in zip(values, sums, strict=True)]

        sums = loop(builder, args[7], 1, [load(builder, part) for part in parts], step)
        for part, total in zip(parts, sums, strict=True):
            store(builder, part, total)
        return context.get_dummy_value()

    return types.void(table, column, width, places, factors, at, step, count, out, out_at), emit


@intrinsic
def set_product(typing, left, left_at, right, right_at, out, out_at, count):  # type: ignore[no-untyped-def] # noqa: ARG001
    """out = left * right, element by element."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right, out = (pointer(context, builder, signature, args, n) for n in (0, 2, 4))

        def step(p: Any, _: list[Any]) -> list[Any]:
            product = builder.fmul(
                load(builder, builder.gep(left, [p])), load(builder, builder.gep(right, [p]))
            )
            store(builder, builder.gep(out, [p]), product)
            return []

        loop(builder, args[6], WIDTH, [], step)
        return context.get_dummy_value()

    return types.void(left, left_at, right, right_at, out, out_at, count), emit


@intrinsic
def dot(typing, left, left_at, right, right_at, count):  # type: ignore[no-untyped-def] # noqa: ARG001
    """The sum of left * right."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right = (pointer(context, builder, signature, args, n) for n in (0, 2))

        def step(p: Any, sums: list[Any]) -> list[Any]:
            a, b = load(builder, builder.gep(left, [p])), load(builder, builder.gep(right, [p]))
            return [multiply_add(builder, a, b, sums[0])]

        (total,) = loop(builder, args[4], WIDTH, [_ZERO], step)
        return _horizontal_sum(builder, total)

    return types.float32(left, left_at, right, right_at, count), emit


@intrinsic
def sgd_step(typing, keep, step, left, left_at, right, right_at, count):  # type: ignore[no-untyped-def] # noqa: ARG001
    """left, right = keep * left + step * right, keep * right + step * left."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        keep, step = splat(builder, args[0]), splat(builder, args[1])
        left, right = (pointer(context, builder, signature, args, n) for n in (2, 4))

        def body(p: Any, _: list[Any]) -> list[Any]:
            places = [builder.gep(left, [p]), builder.gep(right, [p])]
            x, y = (load(builder, place) for place in places)
            store(builder, places[0], multiply_add(builder, step, y, builder.fmul(keep, x)))
            store(builder, places[1], multiply_add(builder, step, x, builder.fmul(keep, y)))
            return []

        loop(builder, args[6], WIDTH, [], body)
        return context.get_dummy_value()

    return types.void(keep, step, left, left_at, right, right_at, count), emit


@intrinsic
def bpr_step(  # type: ignore[no-untyped-def]
    typing,  # noqa: ARG001
    keep,
    step,
    user,
    user_at,
    positive,
    positive_at,
    negative,
    negative_at,
    count,
):
    """user, positive, negative = keep * each + step * (positive - negative), + step * user, - step * user."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        keep, step = splat(builder, args[0]), splat(builder, args[1])
        bases = [pointer(context, builder, signature, args, n) for n in (2, 4, 6)]

        def body(p: Any, _: list[Any]) -> list[Any]:
            places = [builder.gep(base, [p]) for base in bases]
            x, y, z = (load(builder, place) for place in places)
            shift = builder.fmul(step, x)
            kept = [builder.fmul(keep, value) for value in (x, y, z)]
            store(builder, places[0], multiply_add(builder, step, builder.fsub(y, z), kept[0]))
            store(builder, places[1], builder.fadd(kept[1], shift))
            store(builder, places[2], builder.fsub(kept[2], shift))
            return []

        loop(builder, args[8], WIDTH, [], body)
        return context.get_dummy_value()

    return types.void(keep, step, user, user_at, positive, positive_at, negative, negative_at, count), emit


def loop(
    builder: Any, count: Any, stride: int, starts: list[Any], step: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """Emit `for p in range(0, count, stride)` with values carried in registers; returns their last values."""
    entry = builder.block
    body, done = builder.append_basic_block("vector.loop"), builder.append_basic_block("vector.done")
    builder.cbranch(builder.icmp_signed(">", count, ir.Constant(_INT, 0)), body, done)
    builder.position_at_end(body)
    p = builder.phi(_INT)
    carried = [builder.phi(start.type) for start in starts]
    grown = step(p, carried)
    after = builder.add(p, ir.Constant(_INT, stride))
    builder.cbranch(builder.icmp_signed("<", after, count), body, done)
    for phi, start, value in zip(
        [p, *carried], [ir.Constant(_INT, 0), *starts], [after, *grown], strict=True
    ):
        phi.add_incoming(start, entry)
        phi.add_incoming(value, body)
    builder.position_at_end(done)
    results = [builder.phi(start.type) for start in starts]
    for result, start, value in zip(results, starts, grown, strict=True):
        result.add_incoming(start, entry)
        result.add_incoming(value, body)
    return results


def pointer(context: Any, builder: Any, signature: Any, args: Any, position: int) -> Any:
    """Return a pointer to an operand: the array at `position`, offset by the argument after it."""
    array = context.make_array(signature.args[position])(context, builder, args[position])
    return builder.gep(array.data, [args[position + 1]])


def prefetch(builder: Any, place: Any) -> None:
    """Emit the prefetch of one cache line."""
    byte, word = ir.IntType(8), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), word, word, word])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    address = builder.bitcast(place, byte.as_pointer())
    builder.call(function, [address, *(ir.Constant(word, n) for n in (0, 3, 1))])  # read, keep, data


def load(builder: Any, pointer: Any, width: int = WIDTH) -> Any:
    return builder.load(builder.bitcast(pointer, ir.VectorType(_FLOAT, width).as_pointer()), align=4)


def store(builder: Any, pointer: Any, value: Any) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=_CONTRACT), c, flags=_CONTRACT)


def shuffle(builder: Any, left: Any, right: Any, lanes: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(left, right, mask)


def splat(builder: Any, value: Any) -> Any:
    empty = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    return shuffle(builder, one, empty, [0] * WIDTH)


def _horizontal_sum(builder: Any, vector: Any) -> Any:
    width = WIDTH
    while width > 1:
        width //= 2
        halves = [shuffle(builder, vector, vector, list(range(h * width, h * width + width))) for h in (0, 1)]
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
