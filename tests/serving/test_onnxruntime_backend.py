"""The stand-in backend refuses what the native one refuses, and computes what onnxruntime computes."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
from onnx import TensorProto, helper, numpy_helper
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from shopsight.serving.server import ModelLoadError, TritonServer
from tests.serving.conftest import double_graph, onnx_graph, write_onnx_model
from tests.waiting import HANG_SECONDS, wait_until

pytestmark = pytest.mark.triton

X3 = 'input { name: "X" data_type: TYPE_FP32 dims: 3 }'
Y3 = 'output { name: "Y" data_type: TYPE_FP32 dims: 3 }'
JOIN_3 = "dynamic_batching { preferred_batch_size: 3 max_queue_delay_microseconds: 600000000 }"
_names = (f"model_{number}" for number in itertools.count())


def two_inputs_graph() -> bytes:
    return onnx_graph(
        [("A", TensorProto.FLOAT, ["batch", 3]), ("B", TensorProto.FLOAT, ["batch", 3])],
        [("DIFFERENCE", TensorProto.FLOAT, ["batch", 3]), ("SUM", TensorProto.FLOAT, ["batch", 3])],
        [
            helper.make_node("Add", ["A", "B"], ["SUM"]),
            helper.make_node("Sub", ["A", "B"], ["DIFFERENCE"]),
        ],
    )


def sequence_graph() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["X"], ["Y"])],
        "test",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_sequence_value_info("Y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def text_graph(in_dims: list[int | str]) -> bytes:
    return onnx_graph(
        [("X", TensorProto.STRING, in_dims)],
        [("Y", TensorProto.STRING, in_dims)],
        [helper.make_node("Identity", ["X"], ["Y"])],
    )


def gather_graph() -> bytes:
    """Looks up rows of a table of three: an index of 9 makes the run fail."""
    table = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "table")
    return onnx_graph(
        [("X", TensorProto.INT64, ["batch"])],
        [("Y", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_node("Gather", ["table", "X"], ["Y"])],
        [table],
    )


def overridable_graph() -> bytes:
    """Y = X * scale, where a request may replace `scale`, which is 2 by itself."""
    scale = numpy_helper.from_array(np.array([2.0], dtype=np.float32), "scale")
    return onnx_graph(
        [("X", TensorProto.FLOAT, ["n"]), ("scale", TensorProto.FLOAT, [1])],
        [("Y", TensorProto.FLOAT, ["n"])],
        [helper.make_node("Mul", ["X", "scale"], ["Y"])],
        [scale],
    )


def scalar_graph() -> bytes:
    return onnx_graph(
        [("X", TensorProto.FLOAT, [])],
        [("Y", TensorProto.FLOAT, [])],
        [helper.make_node("Add", ["X", "X"], ["Y"])],
    )


REFUSED = {
    "input name that the graph lacks": (
        double_graph(),
        f'max_batch_size: 4 input {{ name: "Z" data_type: TYPE_FP32 dims: 3 }} {Y3}',
        "no input 'Z'; it has X",
    ),
    "output name that the graph lacks": (
        double_graph(),
        f'max_batch_size: 4 {X3} output {{ name: "Z" data_type: TYPE_FP32 dims: 3 }}',
        "no output 'Z'; it has Y",
    ),
    "input missing": (
        two_inputs_graph(),
        'max_batch_size: 4 input { name: "A" data_type: TYPE_FP32 dims: 3 } '
        'output { name: "SUM" data_type: TYPE_FP32 dims: 3 }',
        "1 inputs that are not optional, the graph takes 2: A, B",
    ),
    "one input too many": (
        double_graph(),
        f'max_batch_size: 4 {X3} input {{ name: "Z" data_type: TYPE_FP32 dims: 3 }} {Y3}',
        "2 inputs that are not optional, the graph takes 1: X",
    ),
    "another fixed input dimension": (
        double_graph(),
        f'max_batch_size: 4 input {{ name: "X" data_type: TYPE_FP32 dims: 4 }} {Y3}',
        r"input 'X' is \[-1, 4\] \(with the batch dimension\) here and \[-1, 3\] in the graph",
    ),
    "free input dimension where the graph is fixed": (
        double_graph(),
        f'max_batch_size: 4 input {{ name: "X" data_type: TYPE_FP32 dims: -1 }} {Y3}',
        r"input 'X' is \[-1, -1\]",
    ),
    "input of another rank": (
        double_graph(),
        f'max_batch_size: 4 input {{ name: "X" data_type: TYPE_FP32 dims: [ 3, 1 ] }} {Y3}',
        r"input 'X' is \[-1, 3, 1\]",
    ),
    "input with its batch dimension in dims": (
        double_graph(),
        f'max_batch_size: 4 input {{ name: "X" data_type: TYPE_FP32 dims: [ -1, 3 ] }} {Y3}',
        r"input 'X' is \[-1, -1, 3\]",
    ),
    "input without its batch dimension, unbatched": (
        double_graph(),
        'max_batch_size: 0 input { name: "X" data_type: TYPE_FP32 dims: 3 } '
        'output { name: "Y" data_type: TYPE_FP32 dims: [ -1, 3 ] }',
        r"input 'X' is \[3\] here and \[-1, 3\] in the graph",
    ),
    "another fixed output dimension": (
        double_graph(),
        f'max_batch_size: 4 {X3} output {{ name: "Y" data_type: TYPE_FP32 dims: 5 }}',
        r"output 'Y' is \[-1, 5\]",
    ),
    "free output dimension where the graph is fixed": (
        double_graph(),
        f'max_batch_size: 4 {X3} output {{ name: "Y" data_type: TYPE_FP32 dims: -1 }}',
        r"output 'Y' is \[-1, -1\]",
    ),
    "fixed output dimension where the graph is free": (
        double_graph(["batch", "width"]),
        f"max_batch_size: 4 {X3} {Y3}",
        r"output 'Y' is \[-1, 3\] \(with the batch dimension\) here and \[-1, -1\] in the graph",
    ),
    "another input type": (
        double_graph(),
        f'max_batch_size: 4 input {{ name: "X" data_type: TYPE_FP64 dims: 3 }} {Y3}',
        "input 'X' is TYPE_FP64 here and TYPE_FP32 in the graph",
    ),
    "another output type": (
        double_graph(),
        f'max_batch_size: 4 {X3} output {{ name: "Y" data_type: TYPE_INT32 dims: 3 }}',
        "output 'Y' is TYPE_INT32 here and TYPE_FP32 in the graph",
    ),
    "batches into a graph whose input has a fixed first dimension": (
        double_graph([1, 3]),
        f"max_batch_size: 4 {X3} {Y3}",
        r"input 'X': max_batch_size is 4, but the first dimension of \[1, 3\]",
    ),
    "batches into a graph whose output has a fixed first dimension": (
        double_graph(["batch", 3], [1, 3]),
        f"max_batch_size: 4 {X3} {Y3}",
        r"output 'Y': max_batch_size is 4, but the first dimension of \[1, 3\]",
    ),
    "optional input of a model that batches": (
        overridable_graph(),
        'max_batch_size: 4 input { name: "X" data_type: TYPE_FP32 dims: -1 } '
        'input { name: "scale" data_type: TYPE_FP32 dims: 1 optional: true } '
        'output { name: "Y" data_type: TYPE_FP32 dims: -1 }',
        "graph|optional",
    ),
    "dims other than 1 for a scalar": (
        scalar_graph(),
        'max_batch_size: 0 input { name: "X" data_type: TYPE_FP32 dims: 2 } '
        'output { name: "Y" data_type: TYPE_FP32 dims: 1 }',
        r"input 'X' is a scalar in the graph: its dims must be 1, not \[2\]",
    ),
    "ragged batches": (
        double_graph(),
        "max_batch_size: 4 dynamic_batching { } "
        f'input {{ name: "X" data_type: TYPE_FP32 dims: 3 allow_ragged_batch: true }} {Y3}',
        "ragged batches need the native backend",
    ),
    "sequence batching": (
        double_graph(),
        f"max_batch_size: 4 sequence_batching {{ }} {X3} {Y3}",
        "'sequence_batching' needs Triton's native onnxruntime backend",
    ),
    "inputs that the batch fills": (
        double_graph(),
        'max_batch_size: 4 batch_input { kind: BATCH_ITEM_SHAPE target_name: "S" data_type: TYPE_FP32 '
        f'source_input: "X" }} {X3} {Y3}',
        "'batch_input' needs Triton's native onnxruntime backend",
    ),
    "execution mode that does not exist": (
        double_graph(),
        'max_batch_size: 4 parameters { key: "execution_mode" value { string_value: "7" } } ' + X3 + Y3,
        "execution_mode is 7; it takes 0 or 1",
    ),
    "thread count that is no number": (
        double_graph(),
        'max_batch_size: 4 parameters { key: "intra_op_thread_count" value { string_value: "two" } } '
        + X3
        + Y3,
        "intra_op_thread_count is 'two'; it takes an integer",
    ),
    "output that is a sequence": (
        sequence_graph(),
        f"max_batch_size: 4 {X3} {Y3}",
        "'Y' of the graph has type seq",
    ),
    "no model file": (None, f"max_batch_size: 4 {X3} {Y3}", "no model.onnx in version folder 1"),
    "a file that is no graph": (b"not a graph", f"max_batch_size: 4 {X3} {Y3}", "model.onnx"),
}


@pytest.fixture
def admin(module_server: TritonServer) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(module_server.grpc_url) as client:
        yield client


def f32(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values, dtype=np.float32)


def load(server: TritonServer, graph: bytes | None, config: str) -> str:
    name = next(_names)
    write_onnx_model(server.repository, name, graph, config)
    server.load(name)
    return name


def tensor(name: str, array: np.ndarray[Any, Any]) -> Any:
    given = triton_grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array)
    return given


def ask(client: Any, model: str, **arrays: np.ndarray[Any, Any]) -> Any:
    return client.infer(model, [tensor(*named) for named in arrays.items()], client_timeout=HANG_SECONDS)


def ask_together(client: Any, model: str, arrays: list[np.ndarray[Any, Any]]) -> list[Any]:
    """Send one request per array at once; return each one's result or error, in order."""
    answers: list[Any] = [None] * len(arrays)
    finished = threading.Semaphore(0)

    def keep(index: int) -> Any:
        def callback(result: Any, error: Any) -> None:
            answers[index] = error or result
            finished.release()

        return callback

    for index, array in enumerate(arrays):
        client.async_infer(model, [tensor("X", array)], keep(index), client_timeout=HANG_SECONDS)
    for _ in arrays:
        assert finished.acquire(timeout=HANG_SECONDS)
    return answers


def executions(client: Any, model: str) -> tuple[int, int]:
    stats = client.get_inference_statistics(model, as_json=True)["model_stats"][0]
    return int(stats.get("inference_count", 0)), int(stats.get("execution_count", 0))


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_what_the_native_backend_refuses(module_server: TritonServer, case: str) -> None:
    graph, config, reason = REFUSED[case]
    with pytest.raises(ModelLoadError, match=reason):
        load(module_server, graph, config)


def test_gpu_instances_are_refused_where_there_is_no_gpu(module_server: TritonServer) -> None:
    name = next(_names)
    write_onnx_model(module_server.repository, name, double_graph(), f"max_batch_size: 4 {X3} {Y3}")
    config = module_server.repository / name / "config.pbtxt"
    config.write_text(config.read_text(encoding="utf-8").replace("KIND_CPU", "KIND_GPU"), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="GPU"):
        module_server.load(name)


@pytest.fixture
def filling_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with TritonServer.start(tmp_path_factory.mktemp("filling"), auto_complete=True) as server:
        yield server


def test_fills_in_tensors_batch_size_and_scheduler_when_asked_to(filling_server: TritonServer) -> None:
    model = load(filling_server, two_inputs_graph(), "")
    fixed = load(filling_server, double_graph([2, 3]), "")
    with pytest.raises(ModelLoadError, match="max_batch_size is 4, but the first dimension of this graph"):
        load(filling_server, double_graph([2, 3]), "max_batch_size: 4")
    with triton_grpc.InferenceServerClient(filling_server.grpc_url) as admin:
        check_filled_in(admin, model)
        check_filled_in_without_batches(admin, fixed)


def check_filled_in(admin: Any, model: str) -> None:
    config = admin.get_model_config(model).config
    assert config.max_batch_size == 4
    assert config.HasField("dynamic_batching")
    assert [(i.name, list(i.dims)) for i in config.input] == [("A", [3]), ("B", [3])]
    assert [o.name for o in config.output] == ["DIFFERENCE", "SUM"]
    a, b = f32([[1, 2, 3], [4, 5, 6]]), f32([[1, 1, 1], [2, 2, 2]])
    answer = ask(admin, model, A=a, B=b)
    np.testing.assert_array_equal(answer.as_numpy("SUM"), a + b)
    np.testing.assert_array_equal(answer.as_numpy("DIFFERENCE"), a - b)


def check_filled_in_without_batches(admin: Any, model: str) -> None:
    config = admin.get_model_config(model).config
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [2, 3]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(ask(admin, model, X=x).as_numpy("Y"), 2 * x)


def test_input_dims_may_be_narrower_than_the_graph(module_server: TritonServer, admin: Any) -> None:
    graph = double_graph(["batch", "width"])
    config = f'max_batch_size: 4 {X3} output {{ name: "Y" data_type: TYPE_FP32 dims: -1 }}'
    model = load(module_server, graph, config)
    x = f32([[1, 2, 3]])
    np.testing.assert_array_equal(ask(admin, model, X=x).as_numpy("Y"), 2 * x)
    with pytest.raises(InferenceServerException, match="shape"):
        ask(admin, model, X=f32([[1, 2]]))


def test_serves_some_of_the_outputs(module_server: TritonServer, admin: Any) -> None:
    config = (
        'max_batch_size: 4 input { name: "B" data_type: TYPE_FP32 dims: 3 } '
        'input { name: "A" data_type: TYPE_FP32 dims: 3 } output { name: "SUM" data_type: TYPE_FP32 dims: 3 }'
    )
    model = load(module_server, two_inputs_graph(), config)
    a, b = f32([[1, 2, 3]]), f32([[10, 20, 30]])
    answer = ask(admin, model, A=a, B=b)
    np.testing.assert_array_equal(answer.as_numpy("SUM"), a + b)
    assert answer.as_numpy("DIFFERENCE") is None


def test_scalars_reshape_and_optional_initializers(module_server: TritonServer, admin: Any) -> None:
    one = 'max_batch_size: 0 input { name: "X" data_type: TYPE_FP32 dims: 1 } '
    scalar = load(module_server, scalar_graph(), one + 'output { name: "Y" data_type: TYPE_FP32 dims: 1 }')
    np.testing.assert_array_equal(ask(admin, scalar, X=f32([21])).as_numpy("Y"), [42])

    flat = (
        'max_batch_size: 4 input { name: "X" data_type: TYPE_FP32 dims: 1 reshape { shape: [ ] } } '
        'output { name: "Y" data_type: TYPE_FP32 dims: 1 reshape { shape: [ ] } }'
    )
    reshaped = load(module_server, double_graph(["batch"]), flat)
    np.testing.assert_array_equal(ask(admin, reshaped, X=f32([[1], [2]])).as_numpy("Y"), [[2], [4]])

    replaceable = (
        'max_batch_size: 0 input { name: "X" data_type: TYPE_FP32 dims: -1 } '
        'input { name: "scale" data_type: TYPE_FP32 dims: 1 optional: true } '
        'output { name: "Y" data_type: TYPE_FP32 dims: -1 }'
    )
    overridable = load(module_server, overridable_graph(), replaceable)
    x = f32([1, 2])
    np.testing.assert_array_equal(ask(admin, overridable, X=x).as_numpy("Y"), 2 * x)
    np.testing.assert_array_equal(ask(admin, overridable, X=x, scale=f32([5])).as_numpy("Y"), 5 * x)


def test_texts_pass_through_and_broken_ones_fail_alone(module_server: TritonServer, admin: Any) -> None:
    config = (
        f'max_batch_size: 3 {JOIN_3} input {{ name: "X" data_type: TYPE_STRING dims: 2 }} '
        'output { name: "Y" data_type: TYPE_STRING dims: 2 }'
    )
    model = load(module_server, text_graph(["batch", 2]), config)
    texts = [[b"plain", "退货 ü".encode()], [b"", b"\xff broken"], [b"last", b"one"]]
    good, broken, last = ask_together(admin, model, [np.array([t], dtype=np.object_) for t in texts])
    assert good.as_numpy("Y").tolist() == [texts[0]]
    assert last.as_numpy("Y").tolist() == [texts[2]]
    assert isinstance(broken, InferenceServerException)
    assert "not valid UTF-8" in str(broken)


def test_joins_the_schedulers_batch_into_one_run(module_server: TritonServer, admin: Any) -> None:
    scheduler = "dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 600000000 }"
    model = load(module_server, double_graph(), f"max_batch_size: 4 {scheduler} {X3} {Y3}")
    arrays = [np.full((rows, 3), rows, np.float32) for rows in (1, 2, 1)]
    for array, answer in zip(arrays, ask_together(admin, model, arrays), strict=True):
        np.testing.assert_array_equal(answer.as_numpy("Y"), 2 * array)
    # the server counts after it has answered
    wait_until(lambda: executions(admin, model) == (4, 1), "four inferences are counted as one execution")


def test_a_request_that_fails_in_the_graph_fails_alone(module_server: TritonServer, admin: Any) -> None:
    config = (
        f"max_batch_size: 3 {JOIN_3} "
        'input { name: "X" data_type: TYPE_INT64 dims: 1 reshape { shape: [ ] } } '
        'output { name: "Y" data_type: TYPE_FP32 dims: 2 }'
    )
    model = load(module_server, gather_graph(), config)
    first, bad, last = ask_together(
        admin, model, [np.array([[index]], dtype=np.int64) for index in (2, 9, 0)]
    )
    np.testing.assert_array_equal(first.as_numpy("Y"), [[4, 5]])
    np.testing.assert_array_equal(last.as_numpy("Y"), [[0, 1]])
    assert isinstance(bad, InferenceServerException)
    reference = re.search(r"cannot be run on these inputs.* under (\w+)", str(bad))
    assert reference is not None, "what onnxruntime says names files: it stays in the log"
    log = Path(module_server.state.log_file).read_text(encoding="utf-8")
    assert "out of data bounds" in log[log.index(reference[1]) :]


def test_a_cancelled_request_takes_no_neighbour_with_it(module_server: TritonServer, admin: Any) -> None:
    scheduler = "dynamic_batching { preferred_batch_size: 3 max_queue_delay_microseconds: 1000000 }"
    model = load(module_server, double_graph(), f"max_batch_size: 4 {scheduler} {X3} {Y3}")
    outcome: list[Any] = []
    done = threading.Event()

    def callback(result: Any, error: Any) -> None:
        outcome.append(error or result)
        done.set()

    call = admin.async_infer(model, [tensor("X", f32([[9, 9, 9]]))], callback)
    call.cancel()
    arrays = [f32([[1, 2, 3]]), f32([[4, 5, 6]])]
    for array, answer in zip(arrays, ask_together(admin, model, arrays), strict=True):
        np.testing.assert_array_equal(answer.as_numpy("Y"), 2 * array)
    assert done.wait(HANG_SECONDS)
    assert "cancel" in str(outcome[0]).lower()


def test_an_empty_row_is_answered_and_an_empty_batch_refused(module_server: TritonServer, admin: Any) -> None:
    config = (
        'max_batch_size: 4 input { name: "X" data_type: TYPE_FP32 dims: -1 } '
        'output { name: "Y" data_type: TYPE_FP32 dims: -1 }'
    )
    model = load(module_server, double_graph(["batch", "width"]), config)
    assert ask(admin, model, X=np.empty((2, 0), np.float32)).as_numpy("Y").shape == (2, 0)
    with pytest.raises(InferenceServerException):
        ask(admin, model, X=np.empty((0, 3), np.float32))


def test_another_file_name_and_threads_from_the_configuration(
    module_server: TritonServer, admin: Any
) -> None:
    name = next(_names)
    config = (
        f'max_batch_size: 4 {X3} {Y3} default_model_filename: "net.onnx" '
        "optimization { graph { level: -1 } } "
        'parameters { key: "intra_op_thread_count" value { string_value: "1" } }'
    )
    write_onnx_model(module_server.repository, name, None, config)
    (module_server.repository / name / "1" / "net.onnx").write_bytes(double_graph())
    module_server.load(name)
    x = f32([[1, 2, 3]])
    np.testing.assert_array_equal(ask(admin, name, X=x).as_numpy("Y"), 2 * x)


def test_a_refused_version_leaves_the_old_one_serving(module_server: TritonServer, admin: Any) -> None:
    model = load(module_server, double_graph(), f"max_batch_size: 4 {X3} {Y3}")
    newer = module_server.repository / model / "2"
    newer.mkdir()
    (newer / "model.onnx").write_bytes(double_graph(["batch", 7]))
    with pytest.raises(ModelLoadError, match=r"input 'X' is \[-1, 3\]"):
        module_server.load(model)
    x = f32([[1, 2, 3]])
    np.testing.assert_array_equal(ask(admin, model, X=x).as_numpy("Y"), 2 * x)
    assert module_server.ready(model, 1)
    assert not module_server.ready(model, 2)


def test_every_graph_of_these_tests_is_valid_onnx() -> None:
    """A refusal must come from the configuration, not from a graph that no one would load."""
    for graph, _, _ in REFUSED.values():
        if graph and graph != b"not a graph":
            onnx.checker.check_model(onnx.load_from_string(graph))
