"""Tombstones: who is forgotten is nobody to every router and in every release, at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shopsight.serving.forgotten import FORGOTTEN_FILE, Forgotten, ForgottenError, Tombstone
from shopsight.serving.repository import current_release, publish, republish, rollback
from shopsight.serving.routing.profile import ProfileRouter
from shopsight.serving.routing.recommend import RecommendRouter
from shopsight.serving.routing.rows import RequestError, Row
from shopsight.training.privacy.artefacts import erase_people
from tests.serving.test_routers import Members
from tests.serving.tiny_models import KEY, TinyShop

GONE = "c0005"
PSEUDONYM = KEY.pseudonym("web", "w5")
STONE = Tombstone((GONE,), (("web", PSEUDONYM),), KEY.key_id, "2026-01-01T00:00:00+00:00")


def text(value: str) -> np.ndarray:
    return np.array([value.encode()], dtype=np.object_)


def reasons(router: RecommendRouter, members: Members, **request: str) -> set[bytes]:
    (answer,) = router.answer([Row({name: text(value) for name, value in request.items()})], members)
    assert isinstance(answer, dict)
    return set(answer["REASON_CODE"])


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return TinyShop(seed=4).write(tmp_path / "workspace" / "models")


@pytest.fixture
def repository(tmp_path: Path, models: Path) -> Path:
    publish(models, tmp_path / "repository")
    return tmp_path / "repository"


def recommend(repository: Path) -> RecommendRouter:
    release = current_release(repository)
    assert release is not None
    return RecommendRouter(release.folder(repository, "recommend"), str(release.number), lambda: KEY)


def test_a_running_router_obeys_a_tombstone_from_the_next_request_on(repository: Path, models: Path) -> None:
    router, members = recommend(repository), Members(models)
    assert reasons(router, members, CUSTOMER_ID=GONE) == {b"personal"}
    Forgotten([STONE]).write(repository)
    assert reasons(router, members, CUSTOMER_ID=GONE) == {b"popular"}
    assert reasons(router, members, SOURCE="web", SOURCE_ID="w5") == {b"popular"}
    assert reasons(router, members, CUSTOMER_ID="c0006") == {b"personal"}


def test_a_forgotten_customer_has_no_profile(repository: Path, models: Path) -> None:
    release = current_release(repository)
    assert release is not None
    router = ProfileRouter(release.folder(repository, "profile"), "1", lambda: KEY)
    nobody = router.answer([Row({"CUSTOMER_ID": text("nobody")})], Members(models))
    Forgotten([STONE]).write(repository)
    gone = router.answer([Row({"CUSTOMER_ID": text(GONE)})], Members(models))
    assert isinstance(gone[0], RequestError) and isinstance(nobody[0], RequestError)
    assert str(gone[0]).replace(GONE, "nobody") == str(nobody[0])


def test_an_unreadable_list_stops_lookups_instead_of_bringing_people_back(
    repository: Path, models: Path
) -> None:
    router = recommend(repository)
    (repository / FORGOTTEN_FILE).write_text("{", encoding="utf-8")
    (answer,) = router.answer([Row({"CUSTOMER_ID": text("c0006")})], Members(models))
    assert isinstance(answer, RequestError) and "forgotten.json" in str(answer)
    with pytest.raises(ForgottenError, match="restore it from a backup"):
        Forgotten.read(repository)


def test_tombstones_round_trip_and_join_without_repeats(tmp_path: Path) -> None:
    Forgotten([STONE]).write(tmp_path)
    again = Forgotten.read(tmp_path)
    assert again.tombstones == (STONE,) and again.joined(Forgotten([STONE])).tombstones == (STONE,)
    assert GONE in again.customer_ids and PSEUDONYM in again.pseudonyms
    assert Forgotten.read(tmp_path / "nowhere").tombstones == ()


@pytest.mark.parametrize("num_releases", [1, 2])
def test_no_kept_release_holds_an_erased_customer_and_a_rollback_brings_nobody_back(
    models: Path, repository: Path, num_releases: int
) -> None:
    if num_releases == 2:
        publish(TinyShop(seed=9).write(models), repository)

    def erase(_: str, folder: Path) -> None:
        erase_people(folder, [GONE], [PSEUDONYM])

    before = current_release(repository)
    made = republish(repository, erase)
    assert before is not None and [release.number for release in made] == [
        before.number + 1,
        before.number + 2,
    ]
    assert made[-1].pins == before.number
    left = [path for path in repository.rglob("*") if path.is_file() and b"c0005" in path.read_bytes()]
    left += [
        path for path in repository.rglob("*") if path.is_file() and PSEUDONYM.encode() in path.read_bytes()
    ]
    assert left == []
    rollback(repository)
    members = Members(models)
    assert reasons(recommend(repository), members, CUSTOMER_ID=GONE) == {b"popular"}
    assert reasons(recommend(repository), members, CUSTOMER_ID="c0006") == {b"personal"}


def test_a_rollback_refuses_files_that_are_not_what_was_published(models: Path, repository: Path) -> None:
    publish(TinyShop(seed=9).write(models), repository)
    code = repository / "recommend" / "1" / "model.py"
    code.unlink()
    code.write_text("print('not ours')\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"recommend/1/model\.py: not what release 1 published"):
        rollback(repository)
