"""Emitting calls of compiled kernels from generated functions, in TVM's packed calling convention."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.ir import Expr, Var
from tvm.script.ir_builder import tirx as T

# TVM's prefix for the symbols of functions that take their arguments in its calling convention, and its names and
# numbers for the structures and fields of such arguments (kinds of `tvm_struct_set`).
_SYMBOL_PREFIX, _ANY = "__tvm_ffi_", "tvm_ffi_any"
_ADDRESS, _DATA, _SHAPE, _STRIDES, _AXES, _CODE, _BITS, _LANES, _OFFSET, _DEVICE_NUMBER, _DEVICE_TYPE = range(11)
_TYPE_INDEX, _PADDING, _VALUE = 13, 14, 15
_DLTENSOR_POINTER = 7
_PACKED_AXES = 5
# What all float32 tensors of a CPU have in common; None is a null pointer.
_TENSOR_FIELDS = {
    _STRIDES: None,
    _CODE: tirx.const(2, "uint8"),
    _BITS: tirx.const(32, "uint8"),
    _LANES: tirx.const(1, "uint16"),
    _OFFSET: tirx.const(0, "uint64"),
    _DEVICE_NUMBER: 0,
    _DEVICE_TYPE: 1,
}


class Arguments:
    """Emits the arguments of calls, in memory on the stack that all calls share.

    TVM's own `call_cpacked` would do the same, but it tells LLVM of a new function at every call of an old one.

    Parameters
    ----------
    count
        Of the call with the most.
    axes
        Of the tensor with the most; packed tensors have 5 at most.
    """

    def __init__(self, count: int, axes: int = _PACKED_AXES) -> None:
        self._axes = max(axes, 1)
        self._null = tirx.reinterpret("handle", tirx.const(0, "uint64"))
        self._values, self._result = _on_stack(_ANY, count), _on_stack(_ANY, 1)
        self._tensors = _on_stack("array", count)
        self._sizes = T.decl_buffer((count * self._axes,), "int64", data=_on_stack("shape", count * self._axes))
        for number in range(count):
            for field, value in _TENSOR_FIELDS.items():
                _set_field(self._tensors, number, field, self._null if value is None else value)
            _set_field(self._tensors, number, _SHAPE, _address(self._sizes[number * self._axes]))
            _set_field(self._values, number, _TYPE_INDEX, _DLTENSOR_POINTER)
            _set_field(self._values, number, _PADDING, 0)
            tensor = tirx.call_intrin("handle", "tirx.tvm_struct_get", self._tensors, number, _ADDRESS)
            _set_field(self._values, number, _VALUE, tensor)

    def set(self, number: int, first: Expr, shape: Sequence[int]) -> None:
        """Let an argument be the tensor whose first element this is."""
        assert len(shape) <= self._axes, "more axes than there is room for"
        _set_field(self._tensors, number, _DATA, _address(first))
        _set_field(self._tensors, number, _AXES, len(shape))
        for axis, size in enumerate(shape):
            T.buffer_store(self._sizes, tirx.const(size, "int64"), [number * self._axes + axis])

    def call(self, symbol: str, count: int) -> None:
        """Call a function with the first `count` arguments; the caller fails if it does."""
        status = T.bind(T.call_extern("int32", _SYMBOL_PREFIX + symbol, self._null, self._values, count, self._result))
        with T.Assert(status == 0, f"{symbol} failed"):
            pass


def _on_stack(kind: str, count: int) -> Var:
    return T.bind(tirx.call_intrin("handle", "tirx.tvm_stack_alloca", kind, count))


def _set_field(structures: Expr, number: int, field: int, value: Expr | int) -> None:
    T.evaluate(tirx.call_intrin("int32", "tirx.tvm_struct_set", structures, number, field, value))


def _address(element: Expr) -> Expr:
    return tirx.call_intrin("handle", "tirx.address_of", element)
