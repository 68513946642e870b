"""Removes customers' rows from exported and released models; learned weights stay."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from shopsight.serving.contract import CONTRACT_FILE, METRICS_FILE, ModelContract, file_entry, read_json
from shopsight.serving.durable import write_text
from shopsight.serving.routing.arrays import load_safetensors
from shopsight.serving.routing.people import CUSTOMERS_FILE, IDENTITIES_FILE

Array = NDArray[Any]
_CSR = "_indptr"


def erase_people(folder: Path, customer_ids: Collection[str], pseudonyms: Collection[str]) -> int:
    """Remove customers and pseudonyms from a router's data files and update its contract.

    Files are replaced, never written into, because releases share them by hard links. Returns the number of
    removed rows, 0 for a model without customers.
    """
    customers, identities, kept, known = _kept(folder, customer_ids, pseudonyms)
    removed = int((~kept).sum() + (~known).sum())
    if removed:
        moved = np.append(np.cumsum(kept) - 1, -1)  # the last place answers for row -1
        rows = identities["customer_row"]
        identities = {"pseudonym": identities["pseudonym"][known], "customer_row": moved[rows[known]]}
        _replace(folder / CUSTOMERS_FILE, without_rows(customers, kept))
        _replace(folder / IDENTITIES_FILE, identities)
        _rewrite_contract(folder)
    return removed


def count_people(folder: Path, customer_ids: Collection[str], pseudonyms: Collection[str]) -> int:
    """Return the number of rows that `erase_people` would remove."""
    _, _, kept, known = _kept(folder, customer_ids, pseudonyms)
    return int((~kept).sum() + (~known).sum())


def quotes_messages(folder: Path) -> bool:
    """Whether a model's metrics quote messages, as those of earlier versions of `evaluate language` did."""
    path = folder / METRICS_FILE
    return path.is_file() and any("examples" in group for group in _groups(read_json(path)))


def drop_quotes(folder: Path) -> None:
    """Remove quoted messages from a model's metrics; the file is replaced, never written into."""
    if not quotes_messages(folder):
        return
    metrics = read_json(folder / METRICS_FILE)
    for group in _groups(metrics):
        group.pop("examples", None)
    text = json.dumps(metrics, indent=1, sort_keys=True, ensure_ascii=False)
    write_text(folder / METRICS_FILE, text + "\n")


def people_rows(folder: Path, customer_ids: Collection[str]) -> list[dict[str, Any]]:
    """Return the customers' rows in a router's data file, JSON-ready; a list `x_item` is returned as x."""
    if not (folder / CUSTOMERS_FILE).is_file():
        return []
    arrays = load_safetensors(folder / CUSTOMERS_FILE)
    rows = []
    for row in np.flatnonzero(_named(arrays["customer_id"], customer_ids)):
        fields: dict[str, Any] = {"customer_id": bytes(arrays["customer_id"][row]).rstrip(b"\0").decode()}
        for name, array in arrays.items():
            if name.endswith(_CSR):
                begin, end = array[row : row + 2]
                fields[name.removesuffix(_CSR)] = arrays[name.removesuffix(_CSR) + "_item"][
                    begin:end
                ].tolist()
            elif len(array) == len(arrays["customer_id"]) and name != "customer_id":
                fields[name] = array[row].tolist()
        rows.append(fields)
    return rows


def without_rows(arrays: dict[str, Array], kept: NDArray[np.bool_]) -> dict[str, Array]:
    """Return the kept rows of arrays with one row per customer; `x_indptr` with `x_item` is a CSR pair.

    kept: bool [customers]. Raises ValueError for an array with another number of rows.
    """
    lists = {name.removesuffix(_CSR) for name in arrays if name.endswith(_CSR)}
    answer = {}
    for name in lists:
        indptr, items = arrays[name + _CSR], arrays[f"{name}_item"]
        lengths = np.diff(indptr)
        answer[name + _CSR] = np.concatenate([[0], np.cumsum(lengths[kept])]).astype(indptr.dtype)
        answer[f"{name}_item"] = items[np.repeat(kept, lengths)]
    for name, array in arrays.items():
        if name not in answer:
            if len(array) != len(kept):
                raise ValueError(f"array {name} has {len(array)} rows, expected one a customer: {len(kept)}")
            answer[name] = array[kept]
    return answer


def _groups(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the groups of messages in the metrics of `evaluate language`, under their old key too."""
    found = [metrics.get(key) for key in ("drift", "watch")]
    return [group for part in found if isinstance(part, dict) for group in part.get("groups", [])]


def _kept(
    folder: Path, customer_ids: Collection[str], pseudonyms: Collection[str]
) -> tuple[dict[str, Array], dict[str, Array], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return a router's customers and identities, and the rows of each that stay; empty if it has none."""
    if not (folder / CUSTOMERS_FILE).is_file():
        nothing = np.zeros(0, dtype=np.bool_)
        return {}, {}, nothing, nothing
    customers, identities = (
        load_safetensors(folder / CUSTOMERS_FILE),
        load_safetensors(folder / IDENTITIES_FILE),
    )
    kept = ~_named(customers["customer_id"], customer_ids)
    known = ~_named(identities["pseudonym"], pseudonyms)
    rows = identities["customer_row"]
    if len(kept):
        known &= (rows < 0) | kept[np.maximum(rows, 0)]
    return customers, identities, kept, known


def _named(matrix: Array, ids: Collection[str]) -> NDArray[np.bool_]:
    """Return which rows of an id matrix uint8 [n, width] are among `ids`, bool [n]."""
    if not matrix.size:
        return np.zeros(len(matrix), dtype=np.bool_)
    width = matrix.shape[1]
    wanted = [encoded for encoded in (one.encode() for one in ids) if len(encoded) <= width]
    return np.isin(matrix.view(f"S{width}").reshape(-1), np.array(wanted, dtype=f"S{width}"))


def _replace(path: Path, arrays: dict[str, Array]) -> None:
    staged = path.with_name(f".{path.name}.new")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, staged)
    staged.replace(path)


def _rewrite_contract(folder: Path) -> None:
    contract = ModelContract.read(folder)
    entries = tuple(file_entry(folder, entry.path) for entry in contract.files)
    (folder / CONTRACT_FILE).unlink()
    replace(contract, files=entries).write(folder)
