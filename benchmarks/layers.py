"""Single layers for ONNX Runtime: the same operands as one of our kernels, in ONNX Runtime's own blocked layout."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from ofa_tvm.lowering.onnx_export import OPSET
from ofa_tvm.space.workload import Workload

Array = npt.NDArray[np.float32]

_ACTIVATIONS = {"relu": "Relu", "h_swish": "HardSwish", "h_sigmoid": "HardSigmoid"}
_ACTIVATIONS_OF_A_NET = ("data", "factors", "residual")
_IR_VERSION = 10


def layer(workload: Workload, operands: Mapping[str, Array]) -> onnx.ModelProto:
    """A graph of one convolution with all that our kernel has taken in; weights and bias are constants.

    Parameters
    ----------
    operands
        Of our kernel by name, packed (`Template.argument_shapes`).
    """
    arrays = {name: _logical(workload, name, array) for name, array in operands.items()}
    inputs = {name: array for name, array in arrays.items() if name in _ACTIVATIONS_OF_A_NET}
    constants = {name: array for name, array in arrays.items() if name not in inputs}
    nodes: list[onnx.NodeProto] = []
    current = "data"

    def add(operator: str, *inputs: str, **attributes: object) -> str:
        name = f"value_{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    if workload.kind == "scale" or workload.scaled:
        current = add("Mul", current, "factors")
    if workload.kind == "pool":
        current = add("GlobalAveragePool", current)
    elif _is_classifier(workload):
        constants["weight"] = constants["weight"].reshape(workload.out_channels, workload.in_channels)
        current = add("Gemm", add("Flatten", current), "weight", "bias", transB=1)
    elif workload.kind != "scale":
        k, s = workload.kernel_size, workload.stride
        groups = workload.in_channels if workload.kind == "depthwise" else 1
        current = add("Conv", current, "weight", "bias", pads=[k // 2] * 4, strides=[s, s], group=groups)
    current = _activated(workload, current, add, constants)
    if workload.residual:
        current = add("Add", current, "residual")
    outputs = [current, *([add("GlobalAveragePool", current)] if workload.pooled else [])]
    graph = helper.make_graph(
        nodes,
        workload.key,
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape) for name, array in inputs.items()],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)


def layer_output(workload: Workload, model: onnx.ModelProto, operands: Mapping[str, Array]) -> Array:
    """The first output, `(1, C, H, W)`."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), _options(), providers=["CPUExecutionProvider"])
    inputs = {name: _logical(workload, name, operands[name]) for name in _ACTIVATIONS_OF_A_NET if name in operands}
    output: Array = session.run(None, inputs)[0]
    return output.reshape(1, workload.out_channels, *output.shape[2:] or (1, 1))


def unpacked(workload: Workload, output: Array) -> Array:
    """Our kernel's output `(C / v, H, W, v)` as `(1, C, H, W)`."""
    return _channels_first(output)[:, : workload.out_channels]


def blocked_run(model: onnx.ModelProto) -> Callable[[], object]:
    """The layer as it runs within a network: what changes the layout at both ends is left out."""
    optimised = _optimised(model)
    shapes = _without_reorders(optimised, block_size())
    options = _options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # they are done
    session = onnxruntime.InferenceSession(optimised.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    generator = np.random.default_rng(0)
    for name, shape in shapes.items():
        values = generator.uniform(-1, 1, shape).astype(np.float32)
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    return lambda: session.run_with_iobinding(binding)


@functools.cache
def block_size() -> int:
    """Of the channels, in ONNX Runtime's blocked layout on this CPU: 16 with AVX-512, 8 with AVX2, 1 without a layout.

    A convolution of one output channel says it: its weights are padded to a block.
    """
    channels = 64
    nodes = [helper.make_node("Conv", ["data", "weight"], ["output"])]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("data", (1, channels, 4, 4)), ("output", (1, 1, 4, 4)))
    ]
    weight = numpy_helper.from_array(np.ones((1, channels, 1, 1), np.float32), "weight")
    graph = helper.make_graph(nodes, "probe", ends[:1], ends[1:], [weight])
    optimised = _optimised(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    ).graph
    (convolution,) = (node for node in optimised.node if node.op_type in ("Conv", "FusedConv"))
    (padded,) = (array for array in optimised.initializer if array.name == convolution.input[1])
    return int(padded.dims[0])


def _optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph as ONNX Runtime runs it on this CPU."""
    with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as folder:
        path = Path(folder) / "optimised.onnx"
        options = _options()
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(path)


def _without_reorders(model: onnx.ModelProto, block: int) -> dict[str, tuple[int, ...]]:
    """Take the changes of layout from a graph's ends; the shapes of its inputs then, in blocks of so many channels.

    Those between its operators stay: ONNX Runtime needs them in a network, too.
    """
    graph = model.graph
    inputs, outputs = ({value.name: value for value in ends} for ends in (graph.input, graph.output))
    shapes = {name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for name, value in inputs.items()}
    readers = Counter(name for node in graph.node for name in node.input)
    for node in [*graph.node]:
        before, after = node.input[0], node.output[0]
        if node.op_type == "ReorderInput" and before in inputs and readers[before] == 1:
            n, channels, height, width = shapes.pop(before)
            shapes[after] = (n, -(-channels // block) * block, height, width)
            graph.input.remove(inputs[before])
            graph.input.append(helper.make_tensor_value_info(after, onnx.TensorProto.FLOAT, None))
            graph.node.remove(node)
        elif node.op_type == "ReorderOutput" and after in outputs and not readers[after]:
            graph.output.remove(outputs[after])
            graph.output.append(helper.make_tensor_value_info(before, onnx.TensorProto.FLOAT, None))
            graph.node.remove(node)
    return shapes


def _activated(workload: Workload, current: str, add: Callable[..., str], constants: dict[str, Array]) -> str:
    if workload.activation == "none":
        return current
    if workload.activation == "relu6":
        constants |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
        return add("Clip", current, "zero", "six")
    attributes = {"alpha": 1 / 6} if workload.activation == "h_sigmoid" else {}
    return add(_ACTIVATIONS[workload.activation], current, **attributes)


def _is_classifier(workload: Workload) -> bool:
    """Exported as a product, while the other products on one pixel are convolutions."""
    return workload == Workload("pointwise", workload.in_channels, workload.out_channels, 1, 1)


def _logical(workload: Workload, name: str, array: Array) -> Array:
    """An operand without packing."""
    inputs, outputs = workload.in_channels, workload.out_channels
    if name == "data":
        return array if workload.kind == "conv" else _channels_first(array)[:, :inputs]
    if name == "bias":
        return array.reshape(-1)[:outputs]
    if name == "factors":
        return _channels_first(array)[:, :inputs]
    if name == "residual":
        return _channels_first(array)[:, :outputs]
    if workload.kind == "depthwise":  # (C / v, kh, kw, v)
        return np.moveaxis(array, 3, 1).reshape(-1, 1, *array.shape[1:3])[:outputs]
    if workload.kind == "pointwise":  # (OC / v, IC, v)
        return np.moveaxis(array, 2, 1).reshape(-1, array.shape[1], 1, 1)[:outputs, :inputs]
    return np.moveaxis(array, 4, 1).reshape(-1, *array.shape[1:4])[:outputs]  # (OC / v, IC, kh, kw, v)


def _channels_first(array: Array) -> Array:
    """`(C / v, H, W, v)` as `(1, C, H, W)`."""
    return np.ascontiguousarray(np.moveaxis(array, 3, 1).reshape(1, -1, *array.shape[1:3]))


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options
