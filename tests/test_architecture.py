"""The rules that keep the house in order, read from the code itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("kernels", "serving", "training")
# The rooms of training in their order: each uses those before it.
ROOMS = (
    "artifacts", "data", "evaluation", "language", "value", "profiles", "recommend", "behaviour",
    "experiments", "pipeline", "privacy", "jobs", "report", "demo", "cli",
)  # fmt: skip
# What each package may import of ours: kernels <- serving <- training, never backwards.
ALLOWED = {
    "kernels": {"kernels"},
    "serving": {"kernels", "serving"},
    "training": {"kernels", "serving", "training"},
}
HEAVY = {
    "torch",
    "torchrec",
    "ray",
    "polars",
    "pandas",
    "cudf",
    "nvidia",
    "sklearn",
    "scipy",
    "numba",
    "cupy",
}
DEVICE = {"cupy", "cupyx", "cudf", "cuml", "cudf_polars", "nvidia"}
# Of the safetensors library only what writes: its files are read by serving/safetensors_layout.py alone.
TENSOR_WRITERS = {
    "safetensors": {"save", "save_file"},
    "safetensors.numpy": {"save", "save_file"},
    "safetensors.torch": {"save", "save_file"},
}
# Readers of libraries that need a check before them, and the one file that has it.
READ_IN = {
    "HuggingFaceStorageReader": {"training/recommend/embedding/checkpoint.py"},  # after read_layout
    "from_pretrained": {"training/language/pretrained.py"},  # safetensors alone, no code of the model's own
}
READING_CALLS = {
    "torch.load", "torch.jit.load", "torch.package.PackageImporter", "np.load", "numpy.load", "np.fromfile",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "onnx.load", "onnx.load_model", "onnx.load_tensor",
    "onnx.load_external_data_for_model", "pd.read_pickle", "pandas.read_pickle", "pl.DataFrame.deserialize",
    "pl.LazyFrame.deserialize",
}  # fmt: skip
UNSAFE = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def _files(*packages: str) -> list[Path]:
    return sorted(p for package in packages for p in (ROOT / package).rglob("*.py"))


def _module_scope(tree: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.stmt):
            yield node
        yield from _module_scope(node)


def _names(nodes: Iterator[ast.AST]) -> Iterator[tuple[str, int]]:
    """Every module that is imported, whole: also the submodules that `from package import module` takes."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _imported(nodes: Iterator[ast.AST]) -> Iterator[tuple[str, int]]:
    """The package of each import: ours by its part, as `training`, others by their first name."""
    for name, line in _names(nodes):
        parts = name.split(".")
        yield (parts[1] if parts[0] == "shopsight" and len(parts) > 1 else parts[0]), line


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_flow_one_way(package: str) -> None:
    ours = set(PACKAGES) | {"tests", "benchmarks", "model_repository"}
    backwards = [
        f"{_where(path, line)} imports {name}"
        for path in _files(package)
        for name, line in _imported(ast.walk(_parsed(path)))
        if name in ours - ALLOWED[package]
    ]
    assert not backwards


def _modules() -> dict[str, Path]:
    found = {}
    for path in _files(*PACKAGES):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(("shopsight", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


@cache
def _dependencies() -> dict[str, set[str]]:
    """Which module imports which, imports inside functions included, those for types alone left out."""
    modules = _modules()
    found = {}
    for module, path in modules.items():
        names = {name for name, _ in _names(_run_time(_parsed(path)))}
        whole = {name if name in modules else name.rpartition(".")[0] for name in names}
        found[module] = (whole & modules.keys()) - {module}
    return found


def _run_time(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _run_time(child)


def _room(module: str) -> str:
    parts = module.split(".")
    room = parts[2] if parts[1:2] == ["training"] and len(parts) > 2 else ""
    return "" if room == "__main__" else room


def test_every_folder_of_training_is_a_room_in_the_order() -> None:
    folders = {p.parent.name for p in (ROOT / "training").glob("*/__init__.py")}
    assert folders == set(ROOMS), "name a new room in ROOMS, after all that it uses"
    loose = {p.name for p in (ROOT / "training").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert not loose, "a file of training lies in a room"


def test_rooms_use_only_those_before_them() -> None:
    upward = [
        f"{module} imports {other}: {_room(other)} stands after {_room(module)} in ROOMS"
        for module, others in _dependencies().items()
        for other in others
        if _room(module) and _room(other) and ROOMS.index(_room(other)) > ROOMS.index(_room(module))
    ]
    assert not upward


def test_no_files_import_each_other_in_a_circle() -> None:
    try:
        tuple(TopologicalSorter(_dependencies()).static_order())
    except CycleError as error:
        pytest.fail(f"files import each other: {' -> '.join(error.args[1])}")


def test_nothing_of_ours_uses_an_old_name() -> None:
    old = [
        f"{_where(path, line)} imports {name}; write shopsight.{name}"
        for path in _files(*PACKAGES, "shopsight", "model_repository", "benchmarks", "tests")
        for name, line in _names(ast.walk(_parsed(path)))
        if name.split(".")[0] in PACKAGES
    ]
    assert not old


def test_serving_and_the_routers_import_no_training_library() -> None:
    heavy = [
        f"{_where(path, line)} imports {name}"
        for path in _files("serving", "model_repository")
        for name, line in _imported(ast.walk(_parsed(path)))
        if name in HEAVY
    ]
    assert not heavy


def test_kernels_reference_imports_numpy_alone() -> None:
    foreign = [
        f"{_where(path, line)} imports {name}"
        for path in _files("kernels/reference")
        for name, line in _imported(ast.walk(_parsed(path)))
        if name not in {"numpy", "kernels", "__future__", "dataclasses", "typing", "collections", "math"}
    ]
    assert not foreign


def test_device_libraries_are_imported_at_module_scope_nowhere() -> None:
    device = [
        f"{_where(path, line)} imports {name}"
        for path in _files(*PACKAGES)
        for name, line in _imported(_module_scope(_parsed(path)))
        if name in DEVICE
    ]
    assert not device


def test_the_device_is_chosen_in_one_place() -> None:
    asked = [
        _where(path, node.lineno)
        for path in _files(*PACKAGES)
        if path != ROOT / "kernels" / "backend.py"
        for node in ast.walk(_parsed(path))
        if isinstance(node, ast.Attribute)
        and node.attr in {"is_available", "getDeviceCount", "device_count"}
        and "cuda" in ast.dump(node)
    ]
    assert not asked


def test_nothing_that_executes_code_on_loading() -> None:
    found = []
    for path in _files(*PACKAGES, "model_repository", "benchmarks", "tests"):
        tree = _parsed(path)
        found += [
            f"{_where(path, line)} imports {name}"
            for name, line in _imported(ast.walk(tree))
            if name in UNSAFE
        ]
        found += [
            f"{_where(path, call.lineno)} calls {ast.unparse(call.func)}"
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and _loads_code(call)
        ]
    assert not found


def test_tensor_files_and_graphs_are_read_in_one_place() -> None:
    """Each reader is one that refuses altered files in one way (tests/security)."""
    found = []
    for path in _files(*PACKAGES, "model_repository"):
        tree, name = _parsed(path), str(path.relative_to(ROOT))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found += [
                    f"{_where(path, node.lineno)} imports {alias.name}"
                    for alias in node.names
                    if alias.name.split(".")[0] == "safetensors"
                ]
            elif isinstance(node, ast.ImportFrom) and node.module in TENSOR_WRITERS:
                found += [
                    f"{_where(path, node.lineno)} imports {node.module}.{alias.name}"
                    for alias in node.names
                    if alias.name not in TENSOR_WRITERS[node.module]
                ]
            elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "onnx":
                found += [f"{_where(path, node.lineno)}" for a in node.names if a.name.startswith("load")]
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                last = called.rpartition(".")[2]
                if called in READING_CALLS or (last in READ_IN and name not in READ_IN[last]):
                    found.append(f"{_where(path, node.lineno)} calls {called}")
    assert not found


def _loads_code(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name in {"torch.load", "torch.jit.load", "yaml.load", "yaml.unsafe_load", "eval", "exec"}:
        return True
    return any(
        keyword.arg == "allow_pickle" and getattr(keyword.value, "value", None) is True
        for keyword in call.keywords
    )


def test_the_package_is_ours_when_run_from_a_foreign_directory(tmp_path: Path) -> None:
    code = "from shopsight import kernels, serving, training; print(*map(str, (kernels, serving, training)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.count(f"from '{ROOT / 'shopsight'}/") == 3


def test_importing_the_command_line_loads_no_training_library() -> None:
    code = f"import sys, shopsight.training.cli.main; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_repository_names_no_machine_and_no_registry() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    needles = ("/wo" + "rk/", "/ro" + "ot/", "py" + "pi.org", "files.python" + "hosted")
    found = [
        f"{name}: {needle}"
        for name in tracked
        if (ROOT / name).suffix in {".py", ".md", ".toml", ".txt", ".json", ".sh", ".yaml", ".pbtxt", ""}
        and (ROOT / name).is_file()
        for needle in needles
        if needle in (ROOT / name).read_text(encoding="utf-8", errors="replace")
    ]
    assert not found
