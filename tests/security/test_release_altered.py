"""What is loaded is what was published: a release that anybody altered is refused, by name and remedy."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shopsight.serving.confined import PathRefusedError
from shopsight.serving.contract import ContractError, FileEntry, ModelContract, TensorSpec, sha256_of
from shopsight.serving.gate import Gate, GateError
from shopsight.serving.release import Pointer, ReleaseError
from shopsight.serving.repository import (
    PublishError,
    current_release,
    load_release,
    publish,
    recover,
    rollback,
)
from shopsight.serving.staging import stage
from tests.serving.tiny_models import TinyShop

REFUSED = (ReleaseError, PathRefusedError, ContractError)
REMEDIES = ("publish", "remove", "restore", "move")
SLICE = ("mf_retrieval", "recommend")


class WillingServer:
    """Loads whatever it is told to, and counts."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, model: str) -> None:
        self.loaded.append(model)

    def unload(self, model: str) -> None: ...

    def replay(self, *_: Any) -> int:
        return 1

    def twin(self, _: Path) -> Any:
        return contextlib.nullcontext(self)


def serve(repository: Path) -> list[str]:
    """What `shopsight serve` does with a repository; returns what would have been loaded."""
    server = WillingServer()
    recover(repository)
    release = current_release(repository)
    assert release is not None
    load_release(repository, release, server)
    return server.loaded


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_by_link(path: Path) -> None:
    elsewhere = path.parents[len(path.parts) - 1 - path.parts.index("copy")] / f"outside-{path.name}"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


WAYS: dict[str, Callable[[Path], None]] = {
    "flip": flip,
    "truncate": truncate,
    "link": replace_by_link,
    "pipe": replace_by_pipe,
    "remove": Path.unlink,
}


@pytest.fixture(autouse=True)
def _no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An altered file is not a power cut: nothing here needs the disk to have finished."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with releases 1 and 2 of a member and a router."""
    folder = tmp_path_factory.mktemp("released")
    for seed in (1, 2):
        publish(TinyShop(seed=seed).write(folder / "models", SLICE), folder / "repository")
    return folder / "repository"


def files_of(repository: Path) -> list[str]:
    found = (p.relative_to(repository).as_posix() for p in sorted(repository.rglob("*")) if p.is_file())
    return [path for path in found if path != ".publish.lock"]


@contextlib.contextmanager
def copy_of(released: Path, tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "copy" / "repository"
    shutil.copytree(released, copy)
    yield copy
    shutil.rmtree(tmp_path / "copy")


def problems(attempt: Callable[[], Any], path: str) -> str | None:
    """Say what is wrong with how an altered release was met; None when it was refused as it should be."""
    try:
        attempt()
    except REFUSED as error:
        told = str(error)
        if Path(path).name not in told:
            return f"{path}: not named in {told!r}"
        return None if any(remedy in told for remedy in REMEDIES) else f"{path}: no remedy in {told!r}"
    return f"{path}: served"


def test_the_unaltered_release_is_served_and_rolled_back(released: Path, tmp_path: Path) -> None:
    with copy_of(released, tmp_path) as repository:
        assert serve(repository) == ["mf_retrieval", "recommend"]
        assert rollback(repository).pins == 1


@pytest.mark.parametrize("way", sorted(WAYS))
def test_no_altered_file_is_served(released: Path, tmp_path: Path, way: str) -> None:
    found = []
    for path in files_of(released):
        with copy_of(released, tmp_path) as repository:
            WAYS[way](repository / path)
            found.append(problems(lambda repository=repository: serve(repository), path))
    assert len(found) > 20
    assert [problem for problem in found if problem] == []


@pytest.mark.parametrize("way", sorted(WAYS))
def test_no_altered_file_is_rolled_back_to(released: Path, tmp_path: Path, way: str) -> None:
    found = []
    for path in files_of(released):
        if "/1/" not in path and path not in ("release-1.json", "current-release.json"):
            continue
        with copy_of(released, tmp_path) as repository:
            WAYS[way](repository / path)
            found.append(problems(lambda repository=repository: rollback(repository), path))
    assert len(found) > 10
    assert [problem for problem in found if problem] == []


@pytest.mark.parametrize(
    "added",
    [
        "recommend/2/__pycache__/model.cpython-311.pyc",
        "recommend/1/__pycache__/model.cpython-311.pyc",
        "recommend/2/model.pyc",
        "recommend/2/model.cpython-311-x86_64-linux-gnu.so",
        "recommend/2/model/__init__.py",
        "recommend/2/sitecustomize.py",
        "recommend/2/.hidden",
        "recommend/triton_python_backend_stub",
        "recommend/model.py",
        "mf_retrieval/configs/other.pbtxt",
        "mf_retrieval/warmup/MORE",
        "mf_retrieval/2/weights.bin",
    ],
)
def test_nothing_that_was_added_is_served(released: Path, tmp_path: Path, added: str) -> None:
    with copy_of(released, tmp_path) as repository:
        (repository / added).parent.mkdir(exist_ok=True)
        (repository / added).write_bytes(b"planted")
        with pytest.raises(ReleaseError, match=r"was not published.*remove it"):
            serve(repository)


def test_an_empty_folder_and_a_linked_folder_are_refused(released: Path, tmp_path: Path) -> None:
    with copy_of(released, tmp_path) as repository:
        (repository / "recommend" / "2" / "__pycache__").mkdir()
        with pytest.raises(ReleaseError, match="__pycache__: was not published"):
            serve(repository)
    with copy_of(released, tmp_path) as repository:
        shutil.move(repository / "recommend", tmp_path / "recommend")
        (repository / "recommend").symlink_to(tmp_path / "recommend")
        with pytest.raises(PathRefusedError, match="symbolic link"):
            serve(repository)


def test_a_damaged_release_is_mended_by_publishing_again(tmp_path: Path) -> None:
    """A file that both releases share by a hard link is not linked to again."""
    models, repository = TinyShop(seed=1).write(tmp_path / "models", SLICE), tmp_path / "repository"
    publish(models, repository)
    publish(models, repository)
    shared = repository / "mf_retrieval" / "2" / "model.onnx"
    assert shared.samefile(repository / "mf_retrieval" / "1" / "model.onnx")
    flip(shared)
    with pytest.raises(ReleaseError, match=r"model\.onnx.*publish the models again"):
        serve(repository)
    told: list[str] = []
    release = publish(models, repository, progress=told.append)
    assert release.models["mf_retrieval"].versions == (3,)
    assert any("release 2 is damaged" in line for line in told)
    assert serve(repository) == ["mf_retrieval", "recommend"]
    with pytest.raises(ReleaseError, match=r"model\.onnx"):
        rollback(repository)


def edit_manifest(repository: Path, number: int, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = repository / f"release-{number}.json"
    manifest = json.loads((repository / "release-2.json").read_text()) | {"number": number}
    edit(manifest)
    path.write_text(json.dumps(manifest))


OUTSIDE = ("../victim", "../../../victim", "/victim", ".", "..", "a/b", "recommend/../../victim")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("number", [3, 99])
def test_recovery_removes_nothing_outside_the_repository(
    released: Path, tmp_path: Path, name: str, number: int
) -> None:
    victim = tmp_path / "copy" / "victim" / str(number)
    with copy_of(released, tmp_path) as repository:
        victim.mkdir(parents=True)
        (victim / "precious").write_text("keep")
        if number == 3:  # a number that a publisher claimed
            pointer = Pointer.read(repository)
            Pointer(pointer.current, 3, pointer.manifests).write(repository)

        def rename(manifest: dict[str, Any]) -> None:
            manifest["models"] = {name: manifest["models"]["recommend"]}

        edit_manifest(repository, number, rename)
        with pytest.raises(REFUSED, match=f"release-{number}.json"):
            recover(repository)
        assert (victim / "precious").read_text() == "keep"
        assert (repository / "recommend" / "2" / "model.py").exists()


def test_recovery_does_not_follow_a_link_out_of_the_repository(released: Path, tmp_path: Path) -> None:
    with copy_of(released, tmp_path) as repository:
        pointer = Pointer.read(repository)
        Pointer(pointer.current, 3, pointer.manifests).write(repository)
        edit_manifest(repository, 3, lambda manifest: manifest["models"].update({"segment": {
            "kind": "onnx", "calls": [], "versions": [3], "files": []}}))  # fmt: skip
        (tmp_path / "victim" / "3").mkdir(parents=True)
        (repository / "segment").symlink_to(tmp_path / "victim")
        with pytest.raises(REFUSED, match="symbolic link"):
            recover(repository)
        assert (tmp_path / "victim" / "3").is_dir()


@pytest.mark.parametrize("name", [".publish.lock", ".current-release.json.new", ".release-3.json.new"])
def test_nothing_is_written_through_a_link(released: Path, tmp_path: Path, name: str) -> None:
    with copy_of(released, tmp_path) as repository:
        target = tmp_path / "precious"
        target.write_text("keep")
        (repository / name).unlink(missing_ok=True)
        (repository / name).symlink_to(target)
        with contextlib.suppress(PublishError):
            publish(TinyShop(seed=3).write(tmp_path / "models", SLICE), repository)
        assert target.read_text() == "keep"
        assert target.stat().st_size == 4


def test_staging_does_not_write_through_a_link(released: Path, tmp_path: Path) -> None:
    with copy_of(released, tmp_path) as repository:
        (tmp_path / "elsewhere").mkdir()
        (repository / "recommend" / ".staging").symlink_to(tmp_path / "elsewhere")
        publish(TinyShop(seed=3).write(tmp_path / "models", SLICE), repository)
        assert list((tmp_path / "elsewhere").iterdir()) == []


BAD_NAMES = ["1", "CON", "con", "a\nb", "a b", "A", "é", "-a", "_a", "a" * 65, "..", "a/b", "a.b", ""]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_not_one_is_refused_wherever_it_stands(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not a model's name"):
        ModelContract(name=name, kind="onnx", inputs=(), outputs=(), max_batch_size=1)
    if name and "/" not in name and name not in ("..",):
        models = TinyShop(seed=1).write(tmp_path / "models", SLICE)
        (models / "mf_retrieval").rename(models / name)
        with pytest.raises(ReleaseError, match="is not a model's name"):
            publish(models, tmp_path / "repository")
    models = TinyShop(seed=1).write(tmp_path / "more", SLICE)
    contract = json.loads((models / "recommend" / "contract.json").read_text())
    (models / "recommend" / "contract.json").write_text(json.dumps(contract | {"calls": [name]}))
    with pytest.raises(ContractError, match=r"contract\.json: not a contract .*is not a model's name"):
        publish(models, tmp_path / "repository")


@pytest.mark.parametrize("name", ["../../x", "X/Y", "X\n", "", "1", "NUL", "X" * 65])
def test_a_tensor_name_never_becomes_another_path(name: str) -> None:
    with pytest.raises(ValueError, match="is not a tensor's name"):
        TensorSpec(name, "FP32", (1,))


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/b/c", ".hidden", "a//b", "a/..", "x\n", "a\\b"])
def test_a_file_path_never_leads_elsewhere(path: str) -> None:
    with pytest.raises(ValueError, match="is not a path inside a model's folder"):
        FileEntry(path, "0" * 64, 1)


@pytest.mark.parametrize("path", ["model.py", "model.so", "config.pbtxt", "x.pyc", "tokenizer", "m.onnx.zip"])
def test_exported_files_are_data(path: str) -> None:
    with pytest.raises(ValueError, match="is no data file"):
        ModelContract("m", "onnx", (), (), 1, files=(FileEntry(path, "0" * 64, 1),))


def corrupt(models: Path, file: str, content: bytes) -> None:
    """Replace an exported file by another one, as an exporter that knows no better would: the hash fits."""
    path = models / file
    path.write_bytes(content)
    contract = json.loads((path.parent / "contract.json").read_text())
    for entry in contract["files"]:
        entry["sha256"] = sha256_of(path.parent / entry["path"])
        entry["size_bytes"] = (path.parent / entry["path"]).stat().st_size
    (path.parent / "contract.json").write_text(json.dumps(contract))


GARBAGE = {"an empty file": b"", "an empty object": b"{}", "text": b"not what it says", "zeros": bytes(4096)}


@pytest.mark.parametrize("content", sorted(GARBAGE))
@pytest.mark.parametrize(
    "file",
    [
        "understand/tokenizer.json",
        "recommend/items.safetensors",
        "recommend/customers.safetensors",
        "recommend/identities.safetensors",
        "profile/customers.safetensors",
        "mf_retrieval/model.onnx",
        "intent_encoder/model.onnx",
    ],
)
def test_what_its_reader_cannot_open_is_not_published(tmp_path: Path, file: str, content: str) -> None:
    models = TinyShop(seed=1).write(tmp_path / "models")
    corrupt(models, file, GARBAGE[content])
    with pytest.raises(
        GateError, match=f"{file.split('/')[0]}: .*export {file.split('/')[0]} again|not an ONNX"
    ):
        publish(models, tmp_path / "repository")
    assert current_release(tmp_path / "repository") is None


SHAPES: dict[str, Any] = {
    "a list": [], "a number": 1, "a string": "x", "null": None, "empty": {},
    "deep": None, "digits": None,
}  # fmt: skip
TEXTS = {"deep": "[" * 100_000, "digits": '{"format_version": ' + "9" * 5000 + "}"}


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("file", ["contract.json", "golden.json", "metrics.json"])
def test_json_of_another_shape_is_refused_by_name(tmp_path: Path, file: str, shape: str) -> None:
    if (file, shape) == ("metrics.json", "empty"):
        pytest.skip("a model without figures is welcome")
    models = TinyShop(seed=1).write(tmp_path / "models", SLICE)
    (models / "mf_retrieval" / file).write_text(TEXTS.get(shape) or json.dumps(SHAPES[shape]))
    with pytest.raises((GateError, ContractError), match=file):
        publish(models, tmp_path / "repository")


WRONG = (None, 7, -1, "x", [], {}, [None], {"x": None}, True, 1e400)


def every_field(raw: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all fields and elements of a JSON value, the first elements of lists standing for all."""
    for key in (
        list(raw) if isinstance(raw, dict) else range(min(1, len(raw))) if isinstance(raw, list) else ()
    ):
        yield (*path, key)
        yield from every_field(raw[key], (*path, key))


@pytest.mark.parametrize("file", ["contract.json", "golden.json"])
@pytest.mark.parametrize("model", SLICE)
def test_no_wrong_value_in_any_field_ends_in_a_traceback(tmp_path: Path, model: str, file: str) -> None:
    models = TinyShop(seed=1).write(tmp_path / "models", SLICE)
    path = models / model / file
    whole = json.loads(path.read_text())
    tried = 0
    for number, field in enumerate(every_field(whole)):
        for wrong in WRONG[number % 2 :: 2]:
            changed = json.loads(json.dumps(whole))
            place = changed
            for key in field[:-1]:
                place = place[key]
            place[field[-1]] = wrong
            path.write_text(json.dumps(changed))
            tried += 1
            with contextlib.suppress(GateError, ContractError):
                checked(models, model)
    assert tried > 50


def checked(models: Path, name: str) -> None:
    """Stage one model and check it at the gate, as publishing does."""
    repository = models.parent / "repository"
    shutil.rmtree(repository, ignore_errors=True)
    Gate().check(repository, stage(repository, 1, {name: models / name}, None, None))
