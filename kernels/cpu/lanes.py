"""Vector code that solves eight small systems at once, one in each lane, for rows too short for vector.py.

One value of the eight systems is a vector of eight floats; a matrix of each is an array [row, column, lane].
So no work is lost at the edges of wide tiles, no sum runs across lanes, and one square root serves eight
systems. Systems are handled in blocks of SIDE by SIDE vectors, as many as fit the registers.

All functions work on flat float32 arrays: `*_at` is where an operand begins, `*_step` the distance between
its rows; columns are LANES floats apart. Arguments are not checked. Callable from compiled code alone.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from shopsight.kernels.cpu.vector import WIDTH, load, loop, multiply_add, pointer, prefetch, shuffle, store

LANES = 8
SIDE = 3

_FLOAT, _INT = ir.FloatType(), ir.IntType(64)
_LANE = ir.VectorType(_FLOAT, LANES)
_ZERO = ir.Constant(_LANE, [0.0] * LANES)
_ONE = ir.Constant(_LANE, [1.0] * LANES)
_TILE = [(i, j) for i in range(SIDE) for j in range(SIDE)]


@intrinsic
def add_products(  # type: ignore[no-untyped-def]
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
):
    """out[i, j] += sum over p < count of left[i, p] * right[j, p], for i, j < SIDE."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right, out = (
            _rows(builder, pointer(context, builder, signature, args, n), args[n + 2]) for n in (0, 3, 6)
        )
        sums = _products(builder, left, right, args[9], _TILE)
        for (i, j), total in zip(_TILE, sums, strict=True):
            at = _column(builder, out[i], j)
            store(builder, at, builder.fadd(load(builder, at, LANES), total))
        return context.get_dummy_value()

    return types.void(
        left, left_at, left_step, right, right_at, right_step, out, out_at, out_step, count
    ), emit


@intrinsic
def factorize_block(typing, system, at, step, count, inverses, inverses_at, least, least_at):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Replace a diagonal block, less the products of the `count` columns before it, by its factor L.

    `at` is where the block's first row begins. `inverses` gets the inverse of L, six vectors by rows. `least`
    is lowered to the smallest pivot.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = _rows(builder, pointer(context, builder, signature, args, 0), args[2])
        inverses = pointer(context, builder, signature, args, 4)
        least = pointer(context, builder, signature, args, 6)
        lower = [(i, j) for i, j in _TILE if j <= i]
        sums = _products(builder, rows, rows, args[3], lower)
        block = [builder.gep(row, [builder.mul(args[3], ir.Constant(_INT, LANES))]) for row in rows]
        a = {
            (i, j): builder.fsub(load(builder, _column(builder, block[i], j), LANES), total)
            for (i, j), total in zip(lower, sums, strict=True)
        }
        inverse: dict[tuple[int, int], Any] = {}
        low = load(builder, least, LANES)
        for j in range(SIDE):
            least_so_far = builder.select(builder.fcmp_ordered(">", a[j, j], low), low, a[j, j])
            both = builder.fadd(low, a[j, j])
            low = builder.fadd(least_so_far, builder.fmul(_ZERO, both))  # keeps NaN and infinity
            inverse[j, j] = builder.fdiv(_ONE, _square_root(builder, a[j, j]))
            for i in range(j + 1, SIDE):
                a[i, j] = builder.fmul(a[i, j], inverse[j, j])
            for i in range(j + 1, SIDE):
                for k in range(j + 1, i + 1):
                    a[i, k] = _subtract(builder, a[i, k], a[i, j], a[k, j])
        store(builder, least, low)
        for i in range(1, SIDE):
            for j in range(i):
                total = builder.fmul(a[i, j], inverse[j, j])
                for k in range(j + 1, i):
                    total = multiply_add(builder, a[i, k], inverse[k, j], total)
                inverse[i, j] = builder.fneg(builder.fmul(total, inverse[i, i]))
                store(builder, _column(builder, block[i], j), a[i, j])
        for number, place in enumerate(lower):
            store(builder, _column(builder, inverses, number), inverse[place])
        return context.get_dummy_value()

    return types.void(system, at, step, count, inverses, inverses_at, least, least_at), emit


@intrinsic
def eliminate_block(typing, system, at, above_at, step, count, inverses, inverses_at):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Write the factor's block in the rows at `at`, below the diagonal block of the rows at `above_at`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = _rows(builder, pointer(context, builder, signature, args, 0), args[3])
        base = builder.gep(rows[0], [builder.sub(args[2], args[1])])
        above = _rows(builder, base, args[3])
        sums = dict(zip(_TILE, _products(builder, rows, above, args[4], _TILE), strict=True))
        inverse = _load_inverse(context, builder, signature, args, 5)
        shift = builder.mul(args[4], ir.Constant(_INT, LANES))
        for i in range(SIDE):
            block = builder.gep(rows[i], [shift])
            a = [
                builder.fsub(load(builder, _column(builder, block, j), LANES), sums[i, j])
                for j in range(SIDE)
            ]
            for j in range(SIDE):
                total = builder.fmul(a[0], inverse[j, 0])
                for k in range(1, j + 1):
                    total = multiply_add(builder, a[k], inverse[j, k], total)
                store(builder, _column(builder, block, j), total)
        return context.get_dummy_value()

    return types.void(system, at, above_at, step, count, inverses, inverses_at), emit


@intrinsic
def substitute_block(typing, system, at, step, count, inverses, inverses_at, right, right_at):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Do one block of back substitution: solve `right`'s columns from `count` on and subtract their products
    from the columns before.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = _rows(builder, pointer(context, builder, signature, args, 0), args[2])
        inverse = _load_inverse(context, builder, signature, args, 4)
        right = pointer(context, builder, signature, args, 6)
        place = builder.gep(right, [builder.mul(args[3], ir.Constant(_INT, LANES))])
        values = [load(builder, _column(builder, place, j), LANES) for j in range(SIDE)]
        answers = []
        for j in range(SIDE):
            total = builder.fmul(inverse[j, j], values[j])
            for i in range(j + 1, SIDE):
                total = multiply_add(builder, inverse[i, j], values[i], total)
            answers.append(total)
            store(builder, _column(builder, place, j), total)

        def step(p: Any, _: list[Any]) -> list[Any]:
            shift = builder.mul(p, ir.Constant(_INT, LANES))
            at = builder.gep(right, [shift])
            total = load(builder, at, LANES)
            for row, answer in zip(rows, answers, strict=True):
                total = _subtract(builder, total, load(builder, builder.gep(row, [shift]), LANES), answer)
            store(builder, at, total)
            return []

        loop(builder, args[3], 1, [], step)
        return context.get_dummy_value()

    return types.void(system, at, step, count, inverses, inverses_at, right, right_at), emit


@intrinsic
def gather_lanes(  # type: ignore[no-untyped-def]
    typing,  # noqa: ARG001
    table,
    column,
    places,
    places_at,
    factor,
    factor_at,
    scale,
    scale_at,
    out,
    out_at,
):
    """out[j, lane] = table[places[lane] + column + j] * factor[lane] * scale[j, lane], for j < WIDTH."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table = pointer(context, builder, signature, args, 0)
        places = pointer(context, builder, signature, args, 2)
        factor = load(builder, pointer(context, builder, signature, args, 4), LANES)
        scale, out = (pointer(context, builder, signature, args, n) for n in (6, 8))
        bases = [
            builder.gep(table, [builder.load(builder.gep(places, [ir.Constant(_INT, lane)]))])
            for lane in range(LANES)
        ]
        for first in range(0, WIDTH, 4):
            quads = [load(builder, builder.gep(base, [ir.Constant(_INT, first)]), 4) for base in bases]
            halves = [shuffle(builder, quads[i], quads[i + 4], list(range(8))) for i in range(4)]
            low, high = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
            a, b = (shuffle(builder, halves[0], halves[1], lanes) for lanes in (low, high))
            c, d = (shuffle(builder, halves[2], halves[3], lanes) for lanes in (low, high))
            low, high = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
            columns = [shuffle(builder, *pair, lanes) for pair in ((a, c), (b, d)) for lanes in (low, high)]
            for j, values in enumerate(columns):
                at = ir.Constant(_INT, (first + j) * LANES)
                scaled = builder.fmul(load(builder, builder.gep(scale, [at]), LANES), factor)
                store(builder, builder.gep(out, [at]), builder.fmul(values, scaled))
        return context.get_dummy_value()

    return types.void(table, column, places, places_at, factor, factor_at, scale, scale_at, out, out_at), emit


@intrinsic
def fetch_lanes(typing, table, column, places, places_at):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Prefetch WIDTH floats from table[places[lane] + column] on, for every lane."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table, places = (pointer(context, builder, signature, args, n) for n in (0, 2))
        for lane in range(LANES):
            place = builder.load(builder.gep(places, [ir.Constant(_INT, lane)]))
            prefetch(builder, builder.gep(table, [place]))
        return context.get_dummy_value()

    return types.void(table, column, places, places_at), emit


def _products(builder: Any, left: list[Any], right: list[Any], count: Any, tile: list[Any]) -> list[Any]:
    """Emit sums over p < count of left[i, p] * right[j, p] for the (i, j) of `tile`, kept in registers."""

    def step(p: Any, sums: list[Any]) -> list[Any]:
        shift = builder.mul(p, ir.Constant(_INT, LANES))
        a, b = ([load(builder, builder.gep(row, [shift]), LANES) for row in rows] for rows in (left, right))
        return [multiply_add(builder, a[i], b[j], total) for (i, j), total in zip(tile, sums, strict=True)]

    return loop(builder, count, 1, [_ZERO] * len(tile), step)


def _rows(builder: Any, base: Any, step: Any) -> list[Any]:
    return [builder.gep(base, [builder.mul(step, ir.Constant(_INT, i))]) for i in range(SIDE)]


def _column(builder: Any, row: Any, number: int) -> Any:
    return builder.gep(row, [ir.Constant(_INT, number * LANES)])


def _load_inverse(context: Any, builder: Any, signature: Any, args: Any, position: int) -> dict[Any, Any]:
    base = pointer(context, builder, signature, args, position)
    lower = [(i, j) for i, j in _TILE if j <= i]
    return {place: load(builder, _column(builder, base, n), LANES) for n, place in enumerate(lower)}


def _subtract(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Emit a - b * c."""
    return multiply_add(builder, builder.fneg(b), c, a)


def _square_root(builder: Any, values: Any) -> Any:
    kind = ir.FunctionType(_LANE, [_LANE])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f32")
    return builder.call(function, [values])
