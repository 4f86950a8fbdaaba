"""The innermost loop: some rows of a matrix times a few tokens, in the processor's own words.

AVX-512 VNNI multiplies 64 pairs of bytes in one instruction, the bytes of a weight without a sign. AVX2 multiplies 16
pairs of 16 bits, into which bytes are spread once for all tokens, so that activations have 16 bits there. Neither has a
name in Python, so that the loop is written in LLVM's terms here and compiled by numba into the functions of
:mod:`edgecloud.models.quantized.own.kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features, initialize_native_asmparser
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["AVX2", "HERE", "ROWS", "TOKENS_4", "TOKENS_8", "VNNI", "tile4", "tile8"]


@dataclass(frozen=True, slots=True)
class Words:
    """A processor's instructions: ``lanes`` numbers of 32 bits in a register, ``registers`` of rows of a matrix that
    lie together, and by bits the most tokens at a time. A core of AVX-512 has 32 registers, for four sums of each
    token, four of weights, in 4 bits four more for what is unpacked, and what they are multiplied by; one of AVX2 has
    16. ``spread``: activations and weights are multiplied in 16 bits."""

    name: str
    features: tuple[str, ...]
    lanes: int
    registers: int
    tokens_8: int
    tokens_4: int
    spread: bool


VNNI = Words("VNNI", ("avx512f", "avx512vnni"), 16, 4, 6, 5, False)
AVX2 = Words("AVX2", ("avx2", "fma"), 8, 2, 5, 4, True)


def _here() -> Words | None:
    features = get_host_cpu_features()
    for words in (VNNI, AVX2):
        if all(features.get(name) for name in words.features):
            return words
    return None


initialize_native_asmparser()
HERE = _here()
"""This processor's; ``None``: it has neither."""
_USED = HERE or VNNI
_LANES, _REGISTERS = _USED.lanes, _USED.registers
ROWS = _LANES * _REGISTERS
"""Rows of a matrix that lie together."""
TOKENS_8, TOKENS_4 = _USED.tokens_8, _USED.tokens_4
"""By bits, the most tokens at a time."""

_INT, _LONG, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
_INTS, _FLOATS = ir.VectorType(_INT, _LANES), ir.VectorType(_FLOAT, _LANES)
_MULTIPLY_ADD = ir.InlineAsm(
    ir.FunctionType(ir.LiteralStructType([_INTS, _INTS]), [_INTS] * 3),
    "vpmaddwd $3, $4, $1\n\tvpaddd $1, $0, $0",
    "=x,=&x,0,x,x",
)
"""As one instruction: apart, LLVM multiplies for all tokens before it adds, and runs out of registers."""


def _tile(bits: int) -> Callable[[Sequence[int]], None]:
    """A function that compiled code can call (addresses are integers, all in one tuple)::

        tile((tokens, weights, rows, width_rows, x, columns, scales, sums, width, groups, fours,
              carry, out, stride, ahead, pace))

    ``tokens``, from 1 to the most. ``weights``: :data:`ROWS` rows from the first group on, in 8 bits as ``[columns /
    4][rows][4]`` bytes, 128 added to each; in 4 as ``[columns / 8][rows][4]``, 8 added, the first four
    columns in the bytes' low halves. ``x``: of the first token, as
    :func:`edgecloud.models.quantized.own.parts.quantize` writes it, tokens ``columns`` bytes apart.
    ``scales`` float32 and ``sums`` int32 of each group of ``x``, tokens ``width`` numbers apart: the sum
    of ``x`` times what was added to weights, negative. ``groups`` of so many ``fours`` of columns. In 4
    bits ``rows``: float32 scales of the rows, groups ``width_rows`` apart. Adds to ``out`` where
    ``carry`` is not 0, else writes: :data:`ROWS` float32 a token, tokens ``stride`` numbers apart.

    ``ahead`` is an address that memory is asked for, ``pace`` by how much it goes on for every ``four``: processors of
    AVX2 are asked, or waiting for memory and multiplying would take turns.

    Sums in a group are exact and groups are added one after the other, so that what a token gets does
    not depend on how many are with it.
    """

    @intrinsic
    def tile(typing: Any, numbers: Any) -> Any:
        def emit(context: Any, builder: Any, _: Any, args: Sequence[Any]) -> Any:
            tokens, *given = cgutils.unpack_tuple(builder, args[0])
            after = builder.append_basic_block("done")
            choice = builder.switch(tokens, after)
            for count in range(1, (TOKENS_8 if bits == 8 else TOKENS_4) + 1):
                block = builder.append_basic_block(f"tokens.{count}")
                choice.add_case(_long(count), block)
                builder.position_at_end(block)
                _Emitter(builder, count, bits).tile(*given)
                builder.branch(after)
            builder.position_at_end(after)
            return context.get_dummy_value()

        return types.void(types.UniTuple(types.int64, 16)), emit

    found: Callable[[Sequence[int]], None] = tile
    return found


class _Emitter:
    """Writes one tile's instructions: a loop over groups, in it one over four columns at a time."""

    def __init__(self, builder: Any, count: int, bits: int) -> None:
        self.builder = builder
        self.tokens = range(count)
        self.bits = bits
        self.fused = self.named(f"fma.v{_LANES}f32", _FLOATS, [_FLOATS] * 3)
        if not _USED.spread:
            self.multiplied = self.named("x86.avx512.vpdpbusd.512", _INTS, [_INTS] * 3)

    def named(self, name: str, result: Any, given: list[Any]) -> Any:
        """An instruction by LLVM's name."""
        kind = ir.FunctionType(result, given)
        return cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}")

    def dot(self, old: Any, weight: Any, known: Any) -> Any:
        """``old`` and the products of a register of weights with activations, all lanes of 32 bits."""
        if not _USED.spread:
            return self.builder.call(self.multiplied, [old, weight, known])
        both = self.builder.call(_MULTIPLY_ADD, [old, weight, known])
        return self.builder.extract_value(both, 0)

    def tile(
        self,
        weights: Any,
        rows: Any,
        width_rows: Any,
        x: Any,
        columns: Any,
        scales: Any,
        sums: Any,
        width: Any,
        groups: Any,
        fours: Any,
        carry: Any,
        out: Any,
        stride: Any,
        ahead: Any,
        pace: Any,
    ) -> None:
        b = self.builder
        places = [
            self.at(out, b.add(b.mul(stride, _long(t)), _long(_LANES * register)))
            for t in self.tokens
            for register in range(_REGISTERS)
        ]
        if self.bits == 4:
            fours = b.lshr(fours, _long(1))
        with self.loop(groups, [weights, x, ahead, *self.begun(carry, places)]) as group:
            weights_at, x_at, ahead_at, *totals = group.state

            def of_token(base: Any, kind: Any) -> list[Any]:
                """This group's number of each token, for each register."""
                found = [
                    self.load(self.at(base, b.add(b.mul(width, _long(t)), group.index)), kind)
                    for t in self.tokens
                ]
                return [spread for number in found for spread in [self.spread(number)] * _REGISTERS]

            with self.loop(fours, [weights_at, x_at, ahead_at, *of_token(sums, _INT)]) as four:
                weights_at, x_at, ahead_at, *dots = four.state
                if _USED.spread:
                    self.ask(ahead_at)
                held = [
                    self.load(b.add(weights_at, _long(4 * _LANES * register)), _INTS, align=64)
                    for register in range(_REGISTERS)
                ]
                places_x = self.unpacked(held)
                for place, bytes_ in enumerate(places_x):
                    known = [
                        self.spread(
                            self.load(
                                b.add(x_at, b.add(b.mul(columns, _long(t)), _long(4 * place))), _INT
                            )
                        )
                        for t in self.tokens
                    ]
                    pairs = [(given, weight) for given in known for weight in bytes_]
                    dots = [
                        self.dot(old, weight, given)
                        for old, (given, weight) in zip(dots, pairs, strict=True)
                    ]
                read = b.add(weights_at, _long(4 * ROWS))
                taken = b.add(x_at, _long(4 * len(places_x)))
                four.state = [read, taken, b.add(ahead_at, pace), *dots]
            weights_at, x_at, ahead_at, *dots = four.state
            found = [b.sitofp(dot, _FLOATS) for dot in dots]
            if self.bits == 4:
                first = b.mul(width_rows, group.index)
                of_rows = [
                    self.load(self.at(rows, b.add(first, _long(_LANES * register))), _FLOATS)
                    for register in range(_REGISTERS)
                ]
                found = [b.fmul(f, of_rows[i % _REGISTERS]) for i, f in enumerate(found)]
            totals = [
                b.call(self.fused, [value, scale, old])
                for value, scale, old in zip(found, of_token(scales, _FLOAT), totals, strict=True)
            ]
            group.state = [weights_at, x_at, ahead_at, *totals]
        for place, total in zip(places, group.state[3:], strict=True):
            self.store(total, place)

    def ask(self, address: Any) -> None:
        """Ask memory for the line at an address, which need not be there."""
        b = self.builder
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        asked = self.named("prefetch.p0i8", ir.VoidType(), [byte, number, number, number])
        for_reading, into_all_caches, data = (ir.Constant(number, each) for each in (0, 3, 1))
        b.call(asked, [b.inttoptr(address, byte), for_reading, into_all_caches, data])

    def unpacked(self, held: list[Any]) -> list[list[Any]]:
        """Registers of weights as they are multiplied: of four columns, or in 4 bits of twice four; each of them in
        one register of bytes, or as 16 bits in two, of every other column."""
        shifts = [(0, 8) if _USED.spread else (0,), (4, 12) if _USED.spread else (4,)]
        mask = 0x0F0F0F0F if self.bits == 4 else 0xFFFFFFFF
        if _USED.spread:
            mask &= 0x00FF00FF
        return [
            [self.masked(v, shift, mask) for v in held]
            for of_half in shifts[: 8 // self.bits]
            for shift in of_half
        ]

    def masked(self, value: Any, shift: int, mask: int) -> Any:
        """``value >> shift & mask`` in each lane."""
        b = self.builder
        if shift:
            value = b.lshr(value, ir.Constant(_INTS, [shift] * _LANES))
        if mask == 0xFFFFFFFF:
            return value
        return b.and_(value, ir.Constant(_INTS, [mask] * _LANES))

    def begun(self, carry: Any, places: list[Any]) -> list[Any]:
        """The values at ``places`` where ``carry`` is not 0, else zeros."""
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
        kind = ir.VectorType(value.type, _LANES)
        nothing = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.Constant(_INT, 0))
        lanes = ir.Constant(ir.VectorType(_INT, _LANES), [0] * _LANES)
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


tile8, tile4 = _tile(8), _tile(4)
