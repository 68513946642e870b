"""The routers' `config.pbtxt`, rendered from their tensor lists (routing/tensors.py).

`python -m shopsight.serving.router_configs` writes them into model_repository/ after a tensor list changed. A
test checks that they match.
"""

from __future__ import annotations

from pathlib import Path

from shopsight.serving.contract import TensorSpec
from shopsight.serving.routing.tensors import ROUTERS, RouterTensors
from shopsight.serving.staging import routers_folder
from shopsight.serving.triton_config import CONFIG_FILE

_END = """
# Requests that wait together are answered together; ragged inputs join without being padded.
dynamic_batching { }
instance_group [ { kind: KIND_CPU count: %d } ]

# Publishing adds the version_policy: which releases are loaded.
"""


def render_router_config(name: str, tensors: RouterTensors) -> str:
    """Return the `config.pbtxt` of the router `name`."""
    head = f'name: "{name}"\nbackend: "python"\nmax_batch_size: {tensors.max_batch_size}\n\n'
    inputs = "".join(f"input {{ {_tensor(spec)}{_ragged(spec)} }}\n" for spec in tensors.inputs)
    outputs = "".join(f"output {{ {_tensor(spec)} }}\n" for spec in tensors.outputs)
    return f"{head}{inputs}\n{outputs}{_END % tensors.num_instances}"


def write_router_configs(folder: Path) -> None:
    """Write the configuration of every router into its folder below `folder`."""
    for name, tensors in ROUTERS.items():
        (folder / name / CONFIG_FILE).write_text(render_router_config(name, tensors), encoding="utf-8")


def _tensor(spec: TensorSpec) -> str:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    dims = ", ".join(str(dim) for dim in spec.dims)
    return f'name: "{spec.name}" data_type: TYPE_{datatype} dims: [ {dims} ]'


def _ragged(spec: TensorSpec) -> str:
    return f"{' optional: true' if spec.optional else ''} allow_ragged_batch: true"


if __name__ == "__main__":
    write_router_configs(routers_folder())
