"""Safetensors files that somebody altered: every reader refuses them in one way, or reads what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from shopsight.serving.routing.arrays import load_safetensors, map_safetensors
from shopsight.serving.safetensors_layout import MAX_HEADER_BYTES, TensorFileError, read_metadata
from shopsight.training.artifacts.tensor_file import read_tensors
from shopsight.training.language.checkpoint import load_tensors, save_tensors
from shopsight.training.language.corpus import LanguageError

Array = np.ndarray[Any, Any]
Reader = Callable[[Path], dict[str, Array]]


def by_blocks(path: Path) -> dict[str, Array]:
    return {name: tensor.array() for name, tensor in read_tensors(path).items()}


READERS: dict[str, Reader] = {"mapped": map_safetensors, "loaded": load_safetensors, "by blocks": by_blocks}
# Readers of files whose header also says what the tensors mean; they name their own remedy.
TOLD: dict[str, tuple[Callable[[Path], Any], type[ValueError]]] = {
    "metadata": (read_metadata, TensorFileError),
    "language checkpoint": (load_tensors, LanguageError),
}


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(begin: Any = 0, end: Any = 16, shape: Any = (2, 2), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


DATA = bytes(range(16))
GOOD = {"w": tensor()}
HUGE = 2**63
CORPUS: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": b"\2\0\0\0\0\0\0",
    "no header": (0).to_bytes(8, "little"),
    "header of one byte": file_of(b"{"),
    "header that says more than the file": file_of(GOOD, DATA, length=1000),
    "header of 2**64 - 1": file_of(GOOD, DATA, length=2**64 - 1),
    "header over the bound": file_of(GOOD, DATA, length=MAX_HEADER_BYTES + 1),
    "header cut short": file_of(GOOD, DATA, length=20),
    "not UTF-8": file_of(b'{"\xff": 1}'),
    "UTF-16": file_of(json.dumps(GOOD).encode("utf-16"), DATA),
    "byte order mark": file_of("\ufeff".encode() + json.dumps(GOOD).encode(), DATA),
    "blank before the header": file_of(b" " + json.dumps(GOOD).encode(), DATA),
    "list": file_of([GOOD], DATA),
    "number": file_of(b"12"),
    "text after the header": file_of(json.dumps(GOOD).encode() + b"x", DATA),
    "deep lists": file_of(b'{"w": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", DATA),
    "deep objects": file_of(b'{"w": ' * 200_000 + b"1" + b"}" * 200_000, DATA),
    "deep, not closed": file_of(b'{"w": ' + b"[" * 200_000, DATA),
    "number of 10,000 digits": file_of(b'{"w": ' + b"9" * 10_000 + b"}", DATA),
    "NaN": file_of(b'{"w": NaN}', DATA),
    "name twice": file_of(b'{"w": %b, "w": %b}' % ((json.dumps(tensor()).encode(),) * 2), DATA),
    "field twice": file_of(json.dumps(GOOD).encode().replace(b'{"d', b'{"dtype": "F32", "d'), DATA),
    "metadata twice": file_of(b'{"__metadata__": {}, "__metadata__": {"a": "b"}}'),
    "name that is a lone surrogate": file_of(b'{"\\ud800": %b}' % json.dumps(tensor()).encode(), DATA),
    "metadata that is a list": file_of(GOOD | {"__metadata__": ["a"]}, DATA),
    "metadata that is null": file_of(GOOD | {"__metadata__": None}, DATA),
    "metadata of numbers": file_of(GOOD | {"__metadata__": {"a": 1}}, DATA),
    "metadata of objects": file_of(GOOD | {"__metadata__": {"a": {"b": "c"}}}, DATA),
    "tensor null": file_of({"w": None}, DATA),
    "tensor a list": file_of({"w": ["F32", [4], [0, 16]]}, DATA),
    "tensor a string": file_of({"w": "F32"}, DATA),
    "no dtype": file_of({"w": {"shape": [4], "data_offsets": [0, 16]}}, DATA),
    "no shape": file_of({"w": {"dtype": "F32", "data_offsets": [0, 16]}}, DATA),
    "no offsets": file_of({"w": {"dtype": "F32", "shape": [4]}}, DATA),
    "a field too many": file_of({"w": tensor() | {"more": 1}}, DATA),
    "unknown dtype": file_of({"w": tensor(dtype="Q4")}, DATA),
    "dtype of another case": file_of({"w": tensor(dtype="f32")}, DATA),
    "dtype null": file_of({"w": tensor(dtype=None)}, DATA),
    "dtype a number": file_of({"w": tensor(dtype=4)}, DATA),
    "dtype a list": file_of({"w": tensor(dtype=["F32"])}, DATA),
    "dtype an object": file_of({"w": tensor(dtype={})}, DATA),
    "shape a number": file_of({"w": {"dtype": "F32", "shape": 4, "data_offsets": [0, 16]}}, DATA),
    "shape a string": file_of({"w": {"dtype": "F32", "shape": "4", "data_offsets": [0, 16]}}, DATA),
    "shape null": file_of({"w": {"dtype": "F32", "shape": None, "data_offsets": [0, 16]}}, DATA),
    "shape of booleans": file_of({"w": tensor(0, 4, [True])}, DATA[:4]),
    "shape of floats": file_of({"w": tensor(shape=[4.0])}, DATA),
    "shape of strings": file_of({"w": tensor(shape=["4"])}, DATA),
    "negative shape": file_of({"w": tensor(shape=[-2, -2])}, DATA),
    "shape over 2**64 that wraps to the right size": file_of({"w": tensor(shape=[2**32, 2**32, 4])}, DATA),
    "shape that wraps to nothing": file_of({"w": tensor(0, 0, [2**32, 2**32])}),
    "shape with a zero that no array takes": file_of({"w": tensor(0, 0, [0, 2**62, 2**62])}),
    "shape of 10**400": file_of({"w": tensor(shape=[10**400])}, DATA),
    "shape of 1,000 dimensions": file_of({"w": tensor(0, 4, [1] * 1000)}, DATA[:4]),
    "shape too large": file_of({"w": tensor(shape=[5])}, DATA),
    "shape too small": file_of({"w": tensor(shape=[3])}, DATA),
    "offsets null": file_of({"w": {"dtype": "F32", "shape": [4], "data_offsets": None}}, DATA),
    "one offset": file_of({"w": {"dtype": "F32", "shape": [4], "data_offsets": [16]}}, DATA),
    "three offsets": file_of({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16, 16]}}, DATA),
    "offsets as strings": file_of({"w": tensor("0", "16")}, DATA),
    "offsets as floats": file_of({"w": tensor(0.0, 16.0)}, DATA),
    "offsets as booleans": file_of({"w": tensor(False, True, [1], "U8")}, DATA[:1]),
    "negative offsets": file_of({"w": tensor(-16, 0)}, DATA),
    "offsets reversed": file_of({"w": tensor(16, 0)}, DATA),
    "offsets beyond the file": file_of({"w": tensor(0, 32, [8])}, DATA),
    "offsets of 2**63": file_of({"w": tensor(HUGE, HUGE + 16)}, DATA),
    "overlap": file_of({"a": tensor(0, 16), "b": tensor(8, 24)}, DATA + DATA[:8]),
    "same bytes twice": file_of({"a": tensor(), "b": tensor()}, DATA),
    "one within another": file_of({"a": tensor(), "b": tensor(4, 8, [1])}, DATA),
    "gap between": file_of({"a": tensor(0, 4, [1]), "b": tensor(8, 16, [2])}, DATA),
    "gap at the beginning": file_of({"w": tensor(8, 16, [2])}, DATA),
    "bytes after the last": file_of(GOOD, DATA + b"hidden"),
    "bytes of no tensor": file_of({}, DATA),
    "empty tensor inside another": file_of({"a": tensor(), "b": tensor(8, 8, [0])}, DATA),
    "data missing": file_of(GOOD),
    "data cut by one byte": file_of(GOOD, DATA[:-1]),
    "pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0cos\nsystem\n",
    "zip": b"PK\3\4" + bytes(60),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("attack", CORPUS)
def test_an_altered_file_is_refused_in_one_way(attack: str, reader: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(CORPUS[attack])
    with pytest.raises(TensorFileError, match=r"x\.safetensors: not a safetensors file \(.+\); ") as refused:
        READERS[reader](path)
    assert len(str(refused.value)) < len(str(path)) + 450
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("reader", TOLD)
@pytest.mark.parametrize("attack", CORPUS)
def test_an_altered_file_is_refused_where_its_header_is_told(
    attack: str, reader: str, tmp_path: Path
) -> None:
    read, refusal = TOLD[reader]
    path = tmp_path / "x.safetensors"
    path.write_bytes(CORPUS[attack])
    with pytest.raises(refusal, match=r"x\.safetensors: not a "):
        read(path)


@pytest.mark.parametrize("header", [None, "1", "[]", "{", "[" * 100_000, '"a"'])
def test_a_language_checkpoint_without_its_header_is_refused(header: str | None, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    metadata = {} if header is None else {"header": header}
    path.write_bytes(file_of(GOOD | {"__metadata__": metadata}, DATA))
    with pytest.raises(LanguageError, match=r"not a readable checkpoint .*; train again"):
        load_tensors(path)


def test_every_type_of_a_language_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    wanted = {
        str(dtype): torch.tensor([[0, 1], [1, 0]]).to(dtype)
        for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32)
    } | {"none": torch.empty((0, 3)), "scalar": torch.tensor(2.5)}
    save_tensors(path, wanted, {"a": "b"})
    found, header = load_tensors(path)
    assert header == {"a": "b"}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[n], w) and found[n].dtype == w.dtype for n, w in wanted.items())


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_in_the_same_way(reader: str, tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(TensorFileError, match="not a safetensors file"):
            READERS[reader](path)


UNUSUAL = {
    "no tensor": ({}, b"", {}),
    "spaces after the header": (json.dumps(GOOD).encode() + b"    ", DATA, {"w": (2, 2)}),
    "metadata": (GOOD | {"__metadata__": {"a": "b"}}, DATA, {"w": (2, 2)}),
    "order of the header is not that of the data": (
        {"late": tensor(8, 16, [2]), "early": tensor(0, 8, [2])}, DATA, {"early": (2,), "late": (2,)},
    ),
    "a scalar, an empty tensor and an empty name": (
        {"": tensor(0, 8, [], "F64"), "e": tensor(8, 8, [0, 3]), "r": tensor(8, 16, [2])},
        DATA, {"": (), "e": (0, 3), "r": (2,)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", UNUSUAL)
def test_what_the_format_allows_is_read(case: str, reader: str, tmp_path: Path) -> None:
    header, data, shapes = UNUSUAL[case]
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of(header, data))
    assert {name: array.shape for name, array in READERS[reader](path).items()} == shapes


TENSORS = {
    "factor": np.arange(12, dtype=np.float32).reshape(4, 3),
    "indptr": np.arange(5),
    "code": np.array([3, -1], dtype=np.int32),
    "none": np.empty((0, 2), dtype=np.float64),
}
WRITTEN = save(TENSORS, metadata={"of": "a test"})
HEADER_END = 8 + int.from_bytes(WRITTEN[:8], "little")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(changes=[(0, WRITTEN[0] - 1)], cut=1)
@given(
    changes=st.lists(st.tuples(st.integers(0, HEADER_END - 1), st.integers(0, 255)), min_size=1, max_size=3),
    cut=st.integers(0, 40) | st.just(0),
)
def test_any_change_of_a_header_is_refused_or_leaves_tensors_that_lie_in_the_file(
    changes: list[tuple[int, int]], cut: int, tmp_path: Path
) -> None:
    content = bytearray(WRITTEN)
    for at, byte in changes:
        content[at] = byte
    path = tmp_path / "x.safetensors"
    path.write_bytes(content[: len(content) - cut])
    # A header whose length is written one shorter than it is may lose a space of its padding.
    header_end = 8 + int.from_bytes(content[:8], "little")
    for reader in READERS.values():
        try:
            found = reader(path)
        except TensorFileError:
            continue
        assert sum(array.nbytes for array in found.values()) == len(content) - cut - header_end
        if bytes(content) == WRITTEN and not cut:
            for name, array in TENSORS.items():
                np.testing.assert_array_equal(found[name], array)


def test_every_byte_of_a_header_may_have_a_bit_flipped(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for at in range(HEADER_END):
        for bit in (0, 4, 7):
            content = bytearray(WRITTEN)
            content[at] ^= 1 << bit
            path.write_bytes(content)
            try:
                found = map_safetensors(path)
            except TensorFileError:
                continue
            # what is read has its bytes where they were written: names or types alone can have changed
            assert sum(array.nbytes for array in found.values()) == len(WRITTEN) - HEADER_END
