"""Runs a bundle's model.onnx with ONNX Runtime, after a check that it is of the kind we write.

A manifest does not show who wrote a model. A foreign one may ask for terabytes, never end, or read
other files. So only the operators of our own networks are taken, the weights must lie in the file,
and the memory is bounded.
"""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.errors import InputError

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

__all__ = ["open_model"]

BATCH = 256  # images at once; bounds the memory of activations
MOST_MEMORY = 8 << 30  # bytes of weights and activations
# None of these loops, and the size of what they return follows from their inputs.
OPERATORS = frozenset(
    {
        *("Add", "Div", "MatMul", "Mul", "Sub"),
        *("AveragePool", "Conv", "GlobalAveragePool", "MaxPool", "ReduceMean"),
        *("BatchNormalization", "Constant", "Flatten", "Gemm", "Identity"),
        *("Reshape", "Slice", "Concat", "Transpose"),
        *("Clip", "Elu", "Erf", "Gelu", "LeakyRelu", "Relu", "Sigmoid", "Tanh"),
    }
)

Model = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def open_model(
    data: bytes, *, image_size: tuple[int, int], where: str, threads: int | None = None
) -> Model:
    """Load a model that maps images (n, rows, columns), 0 to 255, to logits (n, classes).

    Args:
        data: the file; it takes `images`, (n, 1, rows, columns) float32, and gives `logits`.
        where: the file's name in error messages.
        threads: of ONNX Runtime; None for one per core.

    Raises:
        InputError: it is no such model; or, when called, ONNX Runtime cannot run it.
    """
    _check(data, image_size, where)
    import onnxruntime

    _bound_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: one per core
    options.log_severity_level = 4  # errors come as exceptions; they need no lines of their own
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many classes without a common one
        raise _refused(where, str(error)) from error
    return functools.partial(_run, session, where)


def _run(session: Any, where: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    try:
        batches = [
            session.run(["logits"], {"images": images[start : start + BATCH, None].astype("f4")})[0]
            for start in range(0, max(len(images), 1), BATCH)  # an empty batch has its shape, too
        ]
        return np.concatenate(batches)
    except Exception as error:
        raise _refused(where, str(error)) from error


def _check(data: bytes, image_size: tuple[int, int], where: str) -> None:
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise _refused(where, "it is no ONNX model") from error
    graph = model.graph
    foreign = sorted(
        {node.op_type for node in graph.node if node.domain or node.op_type not in OPERATORS}
    )
    if foreign or model.functions:
        raise _refused(where, f"it has the operators {', '.join(foreign) or 'of its own'}")
    if any(tensor.data_location == tensor.EXTERNAL for tensor in _tensors(graph)):
        raise _refused(where, "its weights lie in another file")
    own = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in own]
    names = ([value.name for value in inputs], [value.name for value in graph.output])
    if names != (["images"], ["logits"]):
        raise _refused(where, f"it maps {' and '.join(names[0])} to {' and '.join(names[1])}")
    tensor = inputs[0].type.tensor_type
    shape = [size.dim_value for size in tensor.shape.dim]  # 0: any
    if tensor.elem_type != onnx.TensorProto.FLOAT or shape[1:] != [1, *image_size]:
        raise _refused(where, f"its images are of shape {shape}")


def _tensors(graph: "GraphProto") -> "Iterator[TensorProto]":
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def _refused(where: str, found: str) -> InputError:
    first = (found.strip().splitlines() or ["nothing"])[0]
    return InputError(
        f"{where}: need a network as `export` writes it, but {first[:200]}; export the study again"
    )


@functools.cache
def _bound_memory() -> None:
    """Bound what all sessions of this process allocate."""
    import onnxruntime as ort

    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    # -1: ONNX Runtime's defaults
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(MOST_MEMORY, -1, -1, -1))
