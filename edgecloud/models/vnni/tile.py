"""The innermost loop: 64 rows of an 8-bit matrix times up to six tokens, in the processor's own words.

AVX-512 VNNI multiplies 64 pairs of bytes in one instruction, the bytes of a weight without a sign. It
has no name in Python, so that the loop is written in LLVM's terms here and compiled by numba into the
functions of :mod:`edgecloud.models.vnni.kernels`. Touch that file after a change of this one: numba
keeps what it compiled until the file changes that calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "ROWS", "TOKENS", "tiles"]

LANES = 16
"""Numbers of 32 bits in a register."""
_REGISTERS = 4
ROWS = LANES * _REGISTERS
"""Rows of a matrix that lie together: ``[columns / 4][rows][4]`` bytes."""
TOKENS = 6
"""The most tokens at a time: 6 x 4 sums and 4 registers of weights are what a core can hold."""

_BYTE, _INT, _LONG, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_INTS, _FLOATS = ir.VectorType(_INT, LANES), ir.VectorType(_FLOAT, LANES)


def tiles() -> tuple[Callable[[Sequence[int]], None], ...]:
    """For 1 … ``TOKENS`` tokens, a function that compiled code can call (addresses are integers, all in one tuple)::

        tile((weights, x, columns, scales, sums, width, groups, quads, carry, out, stride))

    ``weights``: 64 rows from the first group on, 128 added to each; ``x``: int8 of the first token,
    tokens ``columns`` bytes apart; ``scales`` float32 and ``sums`` int32, -128 times the sum of ``x``,
    of each group, tokens ``width`` numbers apart; ``groups`` of ``quads`` times four columns. Adds to
    ``out`` where ``carry`` is 1, else writes: 64 float32 a token, tokens ``stride`` numbers apart.
    Sums in a group are exact and groups are added one after the other, so that what a token gets
    does not hang on how many are with it.
    """
    return tuple(_tile(count) for count in range(1, TOKENS + 1))


def _tile(count: int) -> Callable[[Sequence[int]], None]:
    @intrinsic
    def tile(typing: Any, numbers: Any) -> Any:
        def emit(context: Any, builder: Any, _: Any, args: Sequence[Any]) -> Any:
            _Emitter(builder, count).tile(*cgutils.unpack_tuple(builder, args[0]))
            return context.get_dummy_value()

        return types.void(types.UniTuple(types.int64, 11)), emit

    return tile  # type: ignore[no-any-return]


class _Emitter:
    """Writes one tile's instructions: a loop over groups, in it one over four columns at a time."""

    def __init__(self, builder: Any, count: int) -> None:
        self.builder = builder
        self.tokens = range(count)
        kinds = {"x86.avx512.vpdpbusd.512": _INTS, "fma.v16f32": _FLOATS}
        self.dot, self.fused = (
            cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.{name}"
            )
            for name, kind in kinds.items()
        )

    def tile(
        self,
        weights: Any,
        x: Any,
        columns: Any,
        scales: Any,
        sums: Any,
        width: Any,
        groups: Any,
        quads: Any,
        carry: Any,
        out: Any,
        stride: Any,
    ) -> None:
        b = self.builder
        places = [
            self.at(out, b.add(b.mul(stride, _long(t)), _long(LANES * register)))
            for t in self.tokens
            for register in range(_REGISTERS)
        ]
        with self.loop(groups, [weights, x, *self.begun(carry, places)]) as group:
            weights_at, x_at, *totals = group.state

            def of_token(base: Any, kind: Any) -> list[Any]:
                """This group's number of each token, for each register."""
                found = [
                    self.load(self.at(base, b.add(b.mul(width, _long(t)), group.index)), kind)
                    for t in self.tokens
                ]
                return [spread for number in found for spread in [self.spread(number)] * _REGISTERS]

            with self.loop(quads, [weights_at, x_at, *of_token(sums, _INT)]) as quad:
                weights_at, x_at, *dots = quad.state
                held = [
                    self.load(b.add(weights_at, _long(4 * LANES * register)), _INTS, align=64)
                    for register in range(_REGISTERS)
                ]
                fours = [
                    self.spread(self.load(b.add(x_at, b.mul(columns, _long(t))), _INT))
                    for t in self.tokens
                ]
                pairs = [(four, weight) for four in fours for weight in held]
                dots = [
                    b.call(self.dot, [old, weight, four])
                    for old, (four, weight) in zip(dots, pairs, strict=True)
                ]
                quad.state = [b.add(weights_at, _long(4 * ROWS)), b.add(x_at, _long(4)), *dots]
            weights_at, x_at, *dots = quad.state
            totals = [
                b.call(self.fused, [b.sitofp(dot, _FLOATS), scale, old])
                for dot, scale, old in zip(dots, of_token(scales, _FLOAT), totals, strict=True)
            ]
            group.state = [weights_at, x_at, *totals]
        for place, total in zip(places, group.state[2:], strict=True):
            self.store(total, place)

    def begun(self, carry: Any, places: list[Any]) -> list[Any]:
        """What is at ``places`` where ``carry`` is not 0, else zeros."""
        b = self.builder
        before, then, after = b.block, *(b.append_basic_block(name) for name in ("carry", "begin"))
        b.cbranch(b.icmp_signed("!=", carry, _long(0)), then, after)
        b.position_at_end(then)
        held = [self.load(place, _FLOATS) for place in places]
        b.branch(after)
        b.position_at_end(after)
        found = []
        for value in held:
            found.append(b.phi(_FLOATS))
            found[-1].add_incoming(value, then)
            found[-1].add_incoming(ir.Constant(_FLOATS, None), before)
        return found

    def at(self, base: Any, index: Any) -> Any:
        """The address of a number of 32 bits."""
        return self.builder.add(base, self.builder.mul(index, _long(4)))

    def load(self, address: Any, kind: Any, align: int = 4) -> Any:
        found = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        found.align = align
        return found

    def store(self, value: Any, address: Any) -> None:
        kept = self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer()))
        kept.align = 4

    def spread(self, value: Any) -> Any:
        """One number in all lanes."""
        kind = ir.VectorType(value.type, LANES)
        nothing = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.Constant(_INT, 0))
        lanes = ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, nothing, lanes)

    def loop(self, times: Any, state: list[Any]) -> _Loop:
        return _Loop(self.builder, times, state)


class _Loop:
    """Context manager: ``times`` (one at least) rounds of what is emitted inside, with values carried
    from round to round in ``state``, which has the last ones behind it."""

    def __init__(self, builder: Any, times: Any, state: list[Any]) -> None:
        self._builder, self._times, self._first = builder, times, state

    def __enter__(self) -> _Loop:
        b = self._builder
        before = b.block
        self._head = b.append_basic_block("loop")
        b.branch(self._head)
        b.position_at_end(self._head)
        self.index = b.phi(_LONG)
        self.index.add_incoming(_long(0), before)
        self._phis = [b.phi(value.type) for value in self._first]
        for phi, value in zip(self._phis, self._first, strict=True):
            phi.add_incoming(value, before)
        self.state: list[Any] = list(self._phis)
        return self

    def __exit__(self, *_: object) -> None:
        b = self._builder
        index = b.add(self.index, _long(1))
        self.index.add_incoming(index, b.block)
        for phi, value in zip(self._phis, self.state, strict=True):
            phi.add_incoming(value, b.block)
        after = b.append_basic_block("after")
        b.cbranch(b.icmp_signed("<", index, self._times), self._head, after)
        b.position_at_end(after)


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)
