"""Exports without a preset, drafted from names and values alone, give what their books say."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopsight.training.data.describing.aliases import status_of
from shopsight.training.data.describing.validate import validate
from tests.training.data.test_known_exports import drafted

EBAY = (
    '"Sales record number","Order number","Buyer username","Buyer name","Buyer email","Item number",'
    '"Item title",'
    '"Quantity","Sold for","Shipping and handling","eBay collected tax","Total price","Sale date",'
    '"Paid on date"\n'
    '"1","12-34-12","lampfan77","Ann Abel","a1@members.example","355001","Oak lamp","2","$40.00",'
    '"$5.00","$0.00",'
    '"$85.00","Jun-14-25","Jun-14-25"\n'
    '"2","12-34-13","bob_b","Bob Bell","z9@members.example","355002","Shade","1","$10.50","$5.00",'
    '"$0.00","$15.50",'
    '"Jun-30-25","Jun-30-25"\n'
)  # fmt: skip
BIGCOMMERCE = (
    "Order ID,Customer ID,Customer Name,Order Date,Order Status,Shipping Cost (inc tax),"
    "Order Total (inc tax),"
    "Order Currency Code\n100,7,Ann,14/06/2025,Completed,5.00,85.00,EUR\n101,8,Bob,15/06/2025,Refunded,"
    "5,15.50,EUR\n"
)
JD = (
    "订单号,商品ID,商品名称,订购数量,京东价,订单金额,结算金额,下单时间,订单状态,下单帐号,客户姓名,联系电话\n"
    "31,12,台灯,2,129.00,258.00,248.00,2025-06-14 22:15:30,完成,jd_a,张三,13800000001\n"
    "32,13,灯罩,1,59.00,59.00,59.00,2025-06-15 09:00:00,(删除)等待付款,jd_b,李四,13800000002\n"
)
RAKUTEN = (
    "注文番号,注文日時,ステータス,注文者姓,注文者名,注文者メールアドレス,商品管理番号,商品名,個数,単価,"
    "合計金額,送料合計\n"
    "123-1,2025/06/14 22:15:30,発送済,山田,花子,h@x.example,oak-1,ランプ,2,4000,8500,500\n"
    "123-2,2025/06/15 22:15:30,キャンセル確定,鈴木,一郎,i@x.example,sh-2,シェード,1,1000,1500,500\n"
)
KOREAN = (
    "주문번호,주문일시,주문상태,구매자명,구매자ID,상품번호,상품명,수량,상품가격\n"
    "2025-1,2025-06-14 22:15:30,구매확정,김,kim1,77,램프,2,4000\n2025-2,2025-06-15 22:15:30,취소완료,"
    "이,lee2,78,갓,1,1000\n"
)
TURKISH = (
    "Sipariş No;Sipariş Tarihi;Sipariş Durumu;Müşteri No;Ürün Kodu;Ürün Adı;Adet;Birim Fiyat;Para Birimi\n"
    "9;14.06.2025 22:15;Teslim Edildi;7;OAK;Lamba;2;1.040,"
    "50;TRY\n10;15.06.2025 10:00;İptal Edildi;8;SH;Abajur;1;10,00;TRY\n"
)
SQUARESPACE = (
    "Order ID,Email,Financial Status,Currency,Subtotal,Shipping,Amount Refunded,Total,Discount Amount,"
    "Created at,"
    "Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,Billing Name\n"
    "101,ann@x.example,PAID,USD,90.50,5.00,0.00,86.50,9.00,2025-06-14 09:59:00 -0400,2,Oak lamp,40.00,"
    "OAK,Ann\n"
    "101,ann@x.example,,,,,,,,,1,Shade,10.50,SH,\n"
    "102,bob@x.example,PAID,USD,10.50,5.00,10.50,15.50,0.00,2025-06-16 09:59:00 -0400,1,Shade,10.50,SH,Bob\n"
)
TRACKED = (
    '{"event":"Product Viewed","properties":{"time":1749938400,"$user_id":"u1","product_id":"OAK",'
    '"price":40}}\n'
    '{"event":"Order Completed","properties":{"time":1749938500,"$user_id":"u1","order_id":"9",'
    '"product_id":"OAK",'
    '"price":40,"quantity":2,"currency":"EUR"}}\n'
)
ALLEGRO = (
    "Id zamówienia;Data zakupu;Login kupującego;Email;Id oferty;Nazwa oferty;Liczba sztuk;"
    "Cena jednostkowa;Waluta;"
    "Status zamówienia;Koszt dostawy\n"
    "a-1;2025-06-14 22:15:30;jan77;jan@x.example;111;Lampa;2;40,00;PLN;Wysłane;9,99\n"
    "a-2;2025-06-15 10:00:00;ewa;ewa@x.example;112;Abażur;1;10,50;PLN;Anulowane;9,99\n"
)
LIGHTSPEED = (
    "Date,Receipt Number,Line Type,Customer Code,Customer Name,Note,Quantity,Subtotal,Discount,Total,"
    "Details,Status,"
    "Sku\n2025-06-14 22:15:30,77,Sale,C-1,Ann,,2,80.00,0.00,88.00,Oak lamp,COMPLETED,OAK\n"
    "2025-06-14 22:18:30,78,Sale,C-2,Bob,,1,10.50,0.00,11.55,Shade,VOIDED,SH\n"
)


@pytest.mark.parametrize(
    ("name", "text", "currency", "sold", "returned", "customers"),
    [
        ("ebay.csv", EBAY, "$", 90.5, 0.0, 2),
        ("bigcommerce.csv", BIGCOMMERCE, "EUR", 100.5, 15.5, 2),
        ("jd.csv", JD, "", 248.0, 0.0, 2),
        ("rakuten.csv", RAKUTEN, "", 8000.0, 0.0, 2),
        ("naver.csv", KOREAN, "", 8000.0, 0.0, 2),
        ("trendyol.csv", TURKISH, "TRY", 2081.0, 0.0, 1),
        ("squarespace.csv", SQUARESPACE, "USD", 92.0, 10.5, 2),
        ("mixpanel.json", TRACKED, "EUR", 80.0, 0.0, 1),
        ("allegro.csv", ALLEGRO, "PLN", 80.0, 0.0, 2),
        ("lightspeed.csv", LIGHTSPEED, "", 80.0, 0.0, 2),
    ],
)
def test_the_books_of_an_export_that_no_preset_knows(
    tmp_path: Path, name: str, text: str, currency: str, sold: float, returned: float, customers: int
) -> None:
    _, _, found = drafted(tmp_path, {name: text})
    assert [((t.currency or ""), t.sold, t.returned) for t in found.takings] == [(currency, sold, returned)]
    assert found.customers == customers and "missing_currency" not in found.set_aside


REVIEWS = (
    "Review Id,Review Created (UTC),Review Consumer User Id,Review Title,Review Content,Review Stars,"
    "Consumer Email,"
    'Order Reference\n1,2025-06-14 10:00:00,u77,Great,"Fast, nice",5,ann@x.example,100\n'
)


def test_reviews_that_name_their_order_are_reviews(tmp_path: Path) -> None:
    _, sources, found = drafted(tmp_path, {"trustpilot.csv": REVIEWS})
    assert [source.kind for source in sources] == ["reviews", "customers"] and found.events == {"review": 1}
    assert sources[0].columns["rating"] == "Review Stars" and sources[1].columns["email"] == "Consumer Email"


YOTPO = (
    "Review ID,Published,Review Title,Review Content,Review Score,Review Creation Date,Reviewer Email,"
    "Product ID,Comment\n"
    "9,yes,Great,Nice lamp,5,2025-06-14,ann@x.example,OAK,\n"
    "10,yes,Bad,Broken on arrival,1,2025-06-15,bob@x.example,SH,Sorry\n"
)


def test_the_text_of_a_review_is_the_customer_s_and_no_comment_on_it(tmp_path: Path) -> None:
    _, sources, found = drafted(tmp_path, {"yotpo.csv": YOTPO})
    assert sources[0].columns["text"] == "Review Content" and found.events == {"review": 2}


TICKETS = (
    "Ticket id,Ticket subject,Creation date,Customer email,Customer name,Customer message,Tags\n"
    '1,Parcel,2025-06-14T10:00:00+00:00,ann@x.example,Ann,"Hi, where is it?",shipping\n'
)


def test_tickets_that_name_people_are_messages(tmp_path: Path) -> None:
    _, sources, found = drafted(tmp_path, {"gorgias.csv": TICKETS})
    assert [source.kind for source in sources] == ["messages", "customers"] and found.events == {"message": 1}


@pytest.mark.parametrize(
    ("text", "is_asked"),
    [
        ("tilauksen numero,Email,päivä,tuote,kappaleet\n1,a@x.example,2025-06-14,L1,2\n", True),
        ("Email,Currency,Lifetime\na@x.example,EUR,12\n", True),
        (
            "Email,First Name,Last Name,City,Opt in,Source,Tag,Owner\na@x.example,Ann,Abel,Bonn,y,web,x,me\n",
            False,
        ),
    ],
)
def test_a_file_that_names_people_and_says_more_is_no_list_of_customers_in_silence(
    tmp_path: Path, text: str, is_asked: bool
) -> None:
    (tmp_path / "export.csv").write_text(text, encoding="utf-8")
    draft = validate([tmp_path / "export.csv"], tmp_path / "s.toml")
    assert draft.is_open is is_asked
    assert any("is this a list of customers?" in line for line in draft.lines) is is_asked


def test_people_known_by_their_mail_are_joined_by_it(tmp_path: Path) -> None:
    text = "Email Address,First Name,Last Name\nann@x.example,Ann,Abel\n"
    shop = "customer_id,email,first_name,last_name\n7,ann@x.example,Ann,Abel\n8,bob@x.example,Bob,Bell\n"
    _, sources, _ = drafted(tmp_path, {"members.csv": text, "shop.csv": shop})
    assert sources[0].columns["email"] == sources[0].columns["source_id"] == "Email Address"


@pytest.mark.parametrize("has_price", [True, False])
def test_an_amount_repeated_on_all_lines_of_an_order_is_the_order_s(tmp_path: Path, has_price: bool) -> None:
    text = "order_id,order_date,customer_id,sku,quantity,amount" + ",unit_price\n" * has_price
    text += "" if has_price else "\n"
    for n in range(1, 5):
        for sku, price in (("A", n), ("B", 2 * n)):
            text += f"{n},2025-06-1{n},c{n},{sku},1,{3 * n}.00" + f",{price}.00" * has_price + "\n"
    lines, sources, found = drafted(tmp_path, {"orders.csv": text})
    asked = any('"amount" is an amount of the whole order' in line for line in lines)
    assert asked is not has_price
    assert ("price" in sources[0].columns, found.takings[0].sold == 30.0) == (has_price, has_price)


@pytest.mark.parametrize(
    ("word", "meaning"),
    [("(删除)等待付款", "no sale"), ("キャンセル確定", "no sale"), ("취소완료", "no sale"),
     ("İptal Edildi", "no sale"), ("部分退款", "sale"), ("发货中未完", None),
     ("refund requested soon", None)],
)  # fmt: skip
def test_statuses_in_languages_without_spaces(word: str, meaning: str | None) -> None:
    assert status_of(word) == meaning
