"""Postage, fees and adjustments: found by name or code, corrected by hand, paid and yet no goods."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.snapshots import TablesError
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.check import check
from shopsight.training.data.cleaning.goods import kind_of_fee
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.tables import SCHEMAS, scan_table, write_tables
from shopsight.training.experiments.ab_test import analyse
from shopsight.training.pipeline import steps
from shopsight.training.pipeline.overrides import ConfigError, overridden
from shopsight.training.pipeline.recipes import recipe
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.features import Tables, compute, fit_spec
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.shop import Shop
from shopsight.training.report.content import sales
from tests.training.small_shop import START, event, write_shop

KEY = PseudonymKey("test", b"k" * 32)
FEES = {
    "postage": "POSTAGE|DOTCOM POSTAGE|CARRIAGE|NEXT DAY CARRIAGE|P&P|Shipping & Handling|DHL Express"
    "|Free Shipping|Express delivery (UK)|Versandkosten|Versand DHL Paket|Frais d'expédition|Gastos de envío"
    "|Envío urgente 24h|Spese di spedizione|Verzendkosten NL|Koszt wysyłki|Frakt|Kargo Ücreti|Доставка|运费"
    "|顺丰快递费|送料|배송비",
    "fee": "Bank Charges|AMAZON FEE|COD fee|Gift wrap fee|Geschenkverpackung|Nachnahmegebühr|Nachnahmegebuehr"
    "|Mindermengenzuschlag|手续费|礼品包装费",
    "insurance": "Shipping Protection by Route|退货运费险",
    "adjustment": "Manual|Adjust bad debt|Rounding|Korrektur|Ajuste de precio|补差价|邮费补差价专用链接",
    "discount": "Discount|Rabatt 10 %|Remise|Descuento|Sconto|Korting|値引き",
    "gift_card": "Gift Card $50|Acme Gift Card|Dotcomgiftshop Gift Voucher £20.00|Gutschein 50 €"
    "|Carte cadeau|礼品卡",
    "tip_or_donation": "Tip|Trinkgeld|Donation|CRUK Commission",
    "tax_or_deposit": "VAT 20%|Pfand|关税",
    "sample_or_test": "SAMPLES|Free sample|Test product|Warenmuster",
}  # fmt: skip
GOODS = (
    "Shipping label printer|Wooden post box|Post-it notes|Manual coffee grinder|Service Manual"
    "|EMPIRE GIFT WRAP|Gift card holder|Gift card box|Versandtasche C4|Versandkarton"
    "|UPS 600VA|UPS|Postage stamp album|10 Zoll"
    "|Port|PADS TO MATCH ALL CUSHIONS|Discount rack|Sample pack tea|Fence post|Correction tape"
    "|Deposit box|Express"
    "|包邮 真皮女包|运费险 赠 男鞋|Charge cable|Pregnancy test|Birthday card|Call of Duty|Standard|1"
)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for kind, names in FEES.items() for name in names.split("|")]
)
def test_the_name_of_a_fee_is_known(name: str, kind: str) -> None:
    assert kind_of_fee(name) in (kind, "postage" if "邮费" in name else kind)


@pytest.mark.parametrize("name", GOODS.split("|"))
def test_goods_that_share_a_word_with_fees_stay_goods(name: str) -> None:
    assert kind_of_fee(name) is None


ORDERS = """id,who,code,name,qty,price,at
1,a,85123A,Lamp,1,10,2025-03-01
1,a,POST,POSTAGE,1,4,2025-03-01
2,b,85123A,Lamp,1,10,2025-03-02
2,b,M,Manual,1,7,2025-03-02
3,b,84406B,Fence post,1,20,2025-03-03
C4,b,D,Discount,-1,2,2025-03-04
5,a,71053,Gift Card 50,1,50,2025-03-05
"""
SOURCES = """format_version = 1
{more}
[[source]]
name = "till"
kind = "orders"
path = "orders.csv"
cancelled_order_prefix = "C"
[source.columns]
source_id = "who"
order_id = "id"
item_id = "code"
quantity = "qty"
price = "price"
timestamp = "at"
"""
TITLES = """
[[source]]
name = "till"
kind = "items"
path = "orders.csv"
derived = true
[source.columns]
item_id = "code"
title = "name"
"""


def read(folder: Path, more: str = "", sources: str = SOURCES + TITLES) -> tuple[IngestReport, Workspace]:
    (folder / "orders.csv").write_text(ORDERS)
    (folder / "mine.toml").write_text(sources.replace("{more}", more))
    workspace = Workspace(folder / "w")
    return ingest(folder / "mine.toml", workspace, KEY), workspace


def fees_of(workspace: Workspace) -> set[str]:
    items = scan_table(workspace.tables, "items").collect()
    assert items["goods"].null_count() == 0
    return set(items.filter(~pl.col("goods"))["item_id"])


def test_lines_that_are_no_goods_are_found_and_told_with_the_evidence(tmp_path: Path) -> None:
    report, workspace = read(tmp_path)
    assert fees_of(workspace) == {"POST", "M", "D", "71053"}
    told = "\n".join(report.notes)
    assert 'no goods (postage): POST "POSTAGE"' in told and 'no goods (adjustment): M "Manual"' in told
    (taken,) = check(workspace.tables).takings
    assert (taken.net, taken.fees) == (10 + 4 + 10 + 7 + 20 - 2 + 50, 4 + 7 - 2 + 50)


def test_a_shop_that_sold_fees_alone_has_no_purchases_to_learn_from(tmp_path: Path) -> None:
    kept = [line for line in ORDERS.splitlines() if not any(item in line for item in ("Lamp", "Fence"))]
    (tmp_path / "orders.csv").write_text("\n".join(kept))
    (tmp_path / "mine.toml").write_text((SOURCES + TITLES).replace("{more}", ""))
    workspace = Workspace(tmp_path / "w")
    ingest(tmp_path / "mine.toml", workspace, KEY)
    said: list[str] = []
    assert "value" not in steps.chosen(workspace, "all", said.append)
    assert any(line.startswith("left out value: no rows in purchases of goods") for line in said)
    with pytest.raises(steps.NothingToLearn, match="purchases of goods"):
        steps.chosen(workspace, "value", said.append)


def test_fees_are_neither_repeated_nor_taken_back_as_goods_are(tmp_path: Path) -> None:
    """Two parcels are charged twice, and postage is given back apart from the goods."""
    text = ORDERS.splitlines()[0] + "\n"
    for order, item in enumerate(("85123A", "POST")):
        name = "Lamp" if item == "85123A" else "POSTAGE"
        text += f"{order},a,{item},{name},1,4,2025-03-01\n{order},a,{item},{name.lower()},1,4,2025-03-01\n"
        text += f"C{order},a,{item},{name},-1,4,2025-03-09\n"
    (tmp_path / "orders.csv").write_text(text)
    (tmp_path / "mine.toml").write_text((SOURCES + TITLES).replace("{more}", ""))
    workspace = Workspace(tmp_path / "w")
    ingest(tmp_path / "mine.toml", workspace, KEY)
    flags = scan_table(workspace.tables, "flags").rename({"id": "event_id"}).collect()
    told = flags.join(scan_table(workspace.tables, "events").collect(), on="event_id", how="left")
    assert sorted(told["rule"]) == ["near_duplicate", "return_matched", "returned"]
    assert set(told["item_id"]) == {"85123A"}


def test_the_sources_file_overrides_both_ways(tmp_path: Path) -> None:
    more = '[goods]\ngoods = ["710*", "M"]\nnot_goods = ["84406B", "NOSUCH"]'
    report, workspace = read(tmp_path, more)
    assert fees_of(workspace) == {"POST", "D", "84406B"}
    assert any('goods.not_goods of the sources file names "NOSUCH"' in note for note in report.notes)
    again, _ = read(tmp_path)
    assert not again.unchanged and fees_of(workspace) == {"POST", "M", "D", "71053"}


def test_a_column_of_the_items_file_says_it(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("sku,name,physical\nPOST,Stamps,yes\n85123A,Lamp,no\n84406B,Post,\n")
    items = """
[[source]]
name = "shop"
kind = "items"
path = "items.csv"
[source.columns]
item_id = "sku"
title = "name"
goods = "physical"
"""
    report, workspace = read(tmp_path, sources=SOURCES + items)
    assert "unknown_item" in report.refused  # 71053 has no title here: it is an item nobody knows
    # POST is stamps here; D alone is too short a code to say anything, and is refused as unknown.
    assert fees_of(workspace) == {"85123A"}


def test_a_code_without_a_title_counts_and_is_not_refused_as_unknown(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "sku,name\n85123A,Lamp\n84406B,Fence post\n71053,Vase\nM,Mug\nD,Dish\n"
    )
    items = '\n[[source]]\nname = "s"\nkind = "items"\npath = "items.csv"\n[source.columns]\n'
    report, workspace = read(tmp_path, sources=SOURCES + items + 'item_id = "sku"\ntitle = "name"\n')
    assert report.refused == {} and fees_of(workspace) == {"POST"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[goods]\nnotgoods = ["A"]', 'unknown key "notgoods" \\(did you mean "not_goods"'),
        ('[goods]\nnot_goods = "A"', "goods.not_goods"),
        ('[goods]\nnot_goods = ["A"]\ngoods = ["A"]', '"A"'),
    ],
)
def test_a_wrong_list_is_refused_by_name(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(IngestError, match=said):
        read(tmp_path, more)


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    """Customers a and b buy lamps and pay postage; c has paid a fee alone; b saw an experiment."""
    paid = {"currency": "EUR", "quantity": 1}
    rows = [
        event("a", "lamp", "purchase", 1, order_id="1", price=10, **paid),
        event("a", "POST", "purchase", 1, order_id="1", price=4, **paid),
        event("b", "lamp", "purchase", 9, order_id="2", price=10, **paid),
        event("b", "vase", "purchase", 9, order_id="2", price=30, **paid),
        event("b", "POST", "return", 12, order_id="2", price=4, **paid),
        event("c", "POST", "purchase", 40, order_id="3", price=400, **paid),
        event("a", "vase", "purchase", 60, order_id="4", price=30, **paid),
    ]
    items = [
        {"item_id": "lamp", "title": "Lamp", "category_path": "Light", "goods": True},
        {"item_id": "vase", "title": "Vase", "category_path": "Home", "goods": True},
        {"item_id": "POST", "title": "Postage", "category_path": "Postage", "goods": False},
    ]
    shown = [
        {"request_id": f"r{c}", "customer_id": c, "experiment": "e", "arm": arm, "timestamp": START}
        for c, arm in (("a", "control"), ("b", "new"), ("c", "new"))
    ]
    return write_shop(tmp_path, rows, items, exposures=shown)


def test_the_recommender_knows_goods_alone(shop: Workspace) -> None:
    seen = Shop(shop, RecommendConfig())
    assert seen.known.item_ids.to_list() == ["lamp", "vase"]
    assert set(seen.events.collect()["item_id"]) == {"lamp", "vase"}
    assert set(seen.items.collect()["item_id"]) == {"lamp", "vase"}


def test_profiles_count_the_money_of_fees_and_nothing_else(shop: Workspace) -> None:
    tables, as_of = Tables.of(shop), START + timedelta(days=70)
    spec = fit_spec(tables, as_of=as_of, config=ProfilesConfig())
    assert "Postage" not in spec.categories
    rows = {row["customer_id"]: row for row in compute(tables, spec, as_of).iter_rows(named=True)}
    counted = ("num_purchases", "num_events", "num_returns", "frequency", "monetary_total")
    assert [rows["a"].get(name) for name in counted if name in rows["a"]] == [2, 2, 2, 44.0]
    assert [rows["c"].get(name) for name in counted if name in rows["c"]] == [0, 0, 0, 400.0]


def test_the_page_names_no_fee_as_a_best_seller(shop: Workspace) -> None:
    assert {one["title"] for one in sales(shop)["best_sellers"]} == {"Lamp", "Vase"}


def test_a_fee_converts_nobody(shop: Workspace) -> None:
    found = analyse(shop)
    assert {arm.name: arm.num_converted for arm in found.arms} == {"control": 1, "new": 1}


def test_tables_of_an_earlier_release_are_refused_with_the_remedy(shop: Workspace) -> None:
    old = scan_table(shop.tables, "items").drop("goods").collect()
    schema = SCHEMAS["items"].copy()
    try:
        del SCHEMAS["items"]["goods"]
        write_tables(shop.tables, {"items": old})
    finally:
        SCHEMAS["items"].clear()
        SCHEMAS["items"].update(schema)
    with pytest.raises(TablesError, match=r"the table items has no column goods.*run 'shopsight ingest"):
        scan_table(shop.tables, "items")


def test_rates_have_one_place() -> None:
    with pytest.raises(ConfigError, match=r"\[currency.rates\] of the sources file"):
        overridden(recipe("default"), settings=["value.rates=['USD=0.9']"])
