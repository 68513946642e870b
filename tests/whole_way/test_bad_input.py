"""Bad input meets one clear message that names what, where and the remedy; nothing half-written stays."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.whole_way.conftest import Command, ServedShop

SOURCES = """
format_version = 1
[[source]]
name = "web"
kind = "orders"
path = "orders.csv"
[source.columns]
source_id = "customer"
order_id = "order"
item_id = "item"
quantity = "quantity"
price = "price"
timestamp = "time"
"""
HEADER = "customer,order,item,quantity,price,time\n"
ROW = "c1,o1,i1,1,9.90,2026-01-05 10:00:00\n"


def _ingest(command: Command, folder: Path, orders: bytes | None, sources: str = SOURCES) -> str:
    (folder / "sources.toml").write_text(sources)
    if orders is not None:
        (folder / "orders.csv").write_bytes(orders)
    done = command("ingest", folder / "sources.toml", "--workspace", folder / "w", check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert not (folder / "w" / "tables" / "snapshot.json").exists()
    return done.stderr


@pytest.mark.parametrize(
    ("orders", "sources", "said"),
    [
        (None, SOURCES, "orders.csv"),
        (b"", SOURCES, "empty"),
        (HEADER.replace("price", "cost").encode(), SOURCES, "price"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), SOURCES, "orders.csv"),
        (b"PAR1" + bytes(200), SOURCES, "orders.csv"),
        ((HEADER + ROW).encode(), SOURCES.replace('"orders"', '"order"'), "orders"),
        ((HEADER + ROW).encode(), SOURCES.replace("[source.columns]", "[source.colums]"), "columns"),
        ((HEADER + ROW).encode(), SOURCES.replace('source_id = "customer"\n', ""), "source_id"),
        ((HEADER + ROW).encode(), SOURCES + "[[", "sources.toml"),
    ],
    ids=["no-file", "empty-file", "no-column", "a-picture", "parquet-called-csv", "unknown-kind",
         "unknown-key", "channel-without-ids", "malformed-toml"],
)  # fmt: skip
def test_a_source_that_cannot_be_read_is_named(
    command: Command, tmp_path: Path, orders: bytes | None, sources: str, said: str
) -> None:
    assert said in _ingest(command, tmp_path, orders, sources)


def test_without_a_key_nothing_is_ingested(command: Command, tmp_path: Path) -> None:
    keyless = Command(command.folder, tmp_path / "absent.json")
    assert "shopsight key create" in _ingest(keyless, tmp_path, (HEADER + ROW).encode())


def test_verbs_before_their_time_say_what_comes_first(command: Command, tmp_path: Path) -> None:
    for verb, said in (
        ("train", "ingest"),
        ("export", "ingest"),
        ("publish", "export"),
        ("serve", "publish"),
    ):
        done = command(verb, "--workspace", tmp_path / "nowhere", check=False)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_mistyped_setting_and_recipe_are_named(command: Command, served_shop: ServedShop) -> None:
    root = served_shop.workspace.root
    done = command("train", "--workspace", root, "--set", "recommend.factor=3", check=False)
    assert done.returncode == 1 and "did you mean 'factors'" in done.stderr
    for arguments, said in (
        (("recommend", "--set", "recommend.factors=0"), "factors is 0; it must be above 0"),
        (("everything",), "language, profiles, value, recommend, embedding, all"),
    ):
        done = command("train", *arguments, "--workspace", root, check=False)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
    done = command("train", "--workspace", root, "--recipe", "grand", check=False)
    assert done.returncode == 1 and "default" in done.stderr


@pytest.mark.triton
def test_a_port_in_use_is_named(command: Command, served_shop: ServedShop, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command("publish", "--workspace", served_shop.workspace.root, "--repository", tmp_path / "other")
        done = command(
            "serve", "--repository", tmp_path / "other", "--http-port", str(port), "--grpc-port", "0",
            "--metrics-port", "0", "--detach", check=False,
        )  # fmt: skip
    assert done.returncode == 1 and str(port) in done.stderr and "--http-port" in done.stderr


@pytest.mark.triton
def test_an_unknown_customer_gets_popular_items_and_an_over_long_text_is_refused(
    command: Command, served_shop: ServedShop
) -> None:
    root = served_shop.workspace.root
    insight = command.json("ask", "--workspace", root, "--customer", "nobody-we-know")
    assert insight["profile"] is None
    assert {entry["reason_code"] for entry in insight["recommendations"]} == {"popular"}
    done = command(
        "ask", "--workspace", root, "--customer", "nobody-we-know", "--message", "a" * 100_000, check=False
    )
    assert done.returncode == 1 and "bytes" in done.stderr and "Traceback" not in done.stderr
