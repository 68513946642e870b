"""Exports the router that asks the other routers; its golden answer is put together from theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shopsight.serving.contract import (
    CONTRACT_FILE,
    ContractError,
    Golden,
    GoldenTensor,
    ModelContract,
    read_goldens,
    write_goldens,
)
from shopsight.serving.routing.insight import SCHEMA_VERSION
from shopsight.serving.routing.tensors import INSIGHT
from shopsight.training.artifacts.model_folders import model_folder, write_contract
from shopsight.training.artifacts.workspace import Workspace

_ASKED_ALIKE = {"CUSTOMER_ID", "K"}  # what insight hands on to recommend unchanged


def export_insight(workspace: Workspace) -> Path:
    """Export `insight` over the routers that lie in `workspace.models` and return its folder."""
    calls = [name for name in INSIGHT.calls if (workspace.models / name / CONTRACT_FILE).is_file()]
    with model_folder(workspace, "insight") as folder:
        write_goldens(folder, [_golden(workspace, calls)])
        write_contract(
            folder,
            data_sha256=_learned_from(workspace, calls),
            name="insight",
            kind="router",
            inputs=INSIGHT.inputs,
            outputs=INSIGHT.outputs,
            max_batch_size=INSIGHT.max_batch_size,
            files=[],
            calls=calls,
            preprocessing={"suppressing_intents": _suppressing(workspace, calls)},
        )
    return workspace.models / "insight"


def _learned_from(workspace: Workspace, calls: list[str]) -> str:
    """The hash of the tables that all routers it asks were trained on, "" where they differ."""
    hashes = {ModelContract.read(workspace.models / name).data_sha256 for name in calls}
    return hashes.pop() if len(hashes) == 1 else ""


def _golden(workspace: Workspace, calls: list[str]) -> Golden:
    """A customer whom no release knows, with a message where the release understands messages."""
    insight: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    tolerance = Golden((), ()).tolerance
    request = [GoldenTensor("CUSTOMER_ID", "BYTES", (1, 1), [["golden-nobody"]])]
    if "profile" in calls:
        insight["profile"] = None
    if "recommend" in calls:
        popular = _popular(read_goldens(workspace.models / "recommend"))
        request = list(popular.request)
        insight |= {"recommendations": _recommendations(popular), "suppressed": None}
    messages = read_goldens(workspace.models / "understand") if "understand" in calls else []
    if messages:
        message = messages[0]
        request.append(message.request[0])
        tolerance = max(tolerance, message.tolerance)
        said = insight["understanding"] = _understanding(message)
        helped_first = _helped_first(said, _suppressing(workspace, calls))
        if helped_first:
            insight |= {"recommendations": [], "suppressed": helped_first} if "recommend" in calls else {}
    elif "understand" in calls:  # no fixed text is clear enough to the model
        insight["understanding"] = None
    answer = GoldenTensor("INSIGHT", "BYTES", (1, 1), [[json.dumps(insight, ensure_ascii=False)]])
    return Golden(tuple(request), (answer,), tolerance)


def _helped_first(said: dict[str, Any], suppressing: list[str]) -> str | None:
    """The intent of a message, as `insight` understands it, for which nothing is offered."""
    wanted = [] if said["is_out_of_scope"] else said.get("intents", [said["intent"]])
    return next((name for name in wanted if name in suppressing), None)


def _suppressing(workspace: Workspace, calls: list[str]) -> list[str]:
    """Intents of messages to whose writers nothing is offered, as the exported recommender has them."""
    if "recommend" not in calls:
        return []
    preprocessing = ModelContract.read(workspace.models / "recommend").preprocessing
    return list(preprocessing.get("suppressing_intents", []))


def _popular(goldens: list[Golden]) -> Golden:
    for golden in goldens:
        names = {tensor.name for tensor in golden.request}
        if "CUSTOMER_ID" in names and names <= _ASKED_ALIKE:
            return golden
    raise ContractError("recommend has no golden request of an unknown customer; export recommend again")


def _recommendations(golden: Golden) -> list[dict[str, Any]]:
    values = {tensor.name: _flat(tensor.data) for tensor in golden.answer}
    listed = zip(values["ITEM_ID"], values["SCORE"], values["REASON_CODE"], strict=True)
    return [
        {"rank": rank, "item_id": item, "score": score, "reason_code": reason}
        for rank, (item, score, reason) in enumerate(listed, start=1)
    ]


def _understanding(golden: Golden) -> dict[str, Any]:
    told = {tensor.name.lower(): _flat(tensor.data)[0] for tensor in golden.answer}
    return {name: (value or None) if name.startswith("answer") else value for name, value in told.items()}


def _flat(data: list[Any]) -> list[Any]:
    return [value for entry in data for value in (_flat(entry) if isinstance(entry, list) else [entry])]
