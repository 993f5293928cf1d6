"""Words of memory that two threads read and write in compiled code, and arrays found again by their address.

numba has no such operations on the CPU; each of these is one instruction. Only for modules that need numba anyway.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

# It hands over the first argument itself, which type checkers cannot know.
intrinsic: Any = extending.intrinsic
_IN_ORDER = "seq_cst"  # every thread sees these reads and writes in one and the same order
_WORD_BYTES = 8


def _place(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Pointer to an element of an array of words."""
    struct = context.make_array(array_type)(context, builder, array)
    return builder.gep(struct.data, [index])


@intrinsic
def load_word(typingctx: Any, words: Any, index: Any) -> Any:
    """The value of ``words[index]`` at this very moment (int64)."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], *arguments)
        return builder.load_atomic(place, _IN_ORDER, _WORD_BYTES)

    return types.int64(words, types.int64), codegen


@intrinsic
def store_word(typingctx: Any, words: Any, index: Any, value: Any) -> Any:
    """Set ``words[index]``; what was written before it is seen by whoever sees it."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        place = _place(context, builder, signature.args[0], array, index)
        builder.store_atomic(value, place, _IN_ORDER, _WORD_BYTES)
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64), codegen


@intrinsic
def swap_word(typingctx: Any, words: Any, index: Any, expected: Any, wanted: Any) -> Any:
    """Set ``words[index]`` if it still is ``expected``; tell whether it was."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, expected, wanted = arguments
        place = _place(context, builder, signature.args[0], array, index)
        return builder.extract_value(builder.cmpxchg(place, expected, wanted, _IN_ORDER, _IN_ORDER), 1)

    return types.boolean(words, types.int64, types.int64, types.int64), codegen


@intrinsic
def address_of(typingctx: Any, array: Any) -> Any:
    """Where an array's data lie."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        struct = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.ptrtoint(struct.data, ir.IntType(64))

    return types.int64(array), codegen


@intrinsic
def array_at(typingctx: Any, like: Any, address: Any) -> Any:
    """The array at an address, shaped as ``like``; its owner must keep it while it is used."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, address = arguments
        make = context.make_array(signature.args[0])
        struct, moved = make(context, builder, array), make(context, builder)
        cgutils.copy_struct(moved, struct)
        moved.data = builder.inttoptr(address, struct.data.type)
        moved.meminfo = context.get_constant_null(types.MemInfoPointer(signature.args[0].dtype))
        moved.parent = context.get_constant_null(types.pyobject)
        return moved._getvalue()

    return like(like, types.int64), codegen


@intrinsic
def wait_a_moment(typingctx: Any) -> Any:
    """Nothing for some 20 to 50 ns; it saves power, and the core's other hyperthread runs faster."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            nothing = ir.FunctionType(ir.VoidType(), [])
            pause = cgutils.get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause")
            builder.call(pause, [])
        return context.get_dummy_value()

    return types.void(), codegen


# Offers the processor to other threads that wait for one; a system call of less than a microsecond.
give_way = types.ExternalFunction("sched_yield", types.int32())

__all__ = ["address_of", "array_at", "give_way", "load_word", "store_word", "swap_word", "wait_a_moment"]
