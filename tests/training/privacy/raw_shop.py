"""A shop's raw files, two channels and support, with or without some of its people."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np

SOURCES = """format_version = 1
[[source]]
name = "web"
kind = "customers"
path = "accounts.csv"
[source.columns]
source_id = "account"
email = "mail"
full_name = "name"
registered_at = "since"
[[source]]
name = "app"
kind = "customers"
path = "devices.csv"
[source.columns]
source_id = "device"
email = "mail"
registered_at = "since"
[[source]]
name = "web"
kind = "orders"
path = "orders.csv"
channel = "web"
timezone = "UTC"
[source.columns]
source_id = "account"
order_id = "order"
item_id = "item"
quantity = "qty"
price = "price"
timestamp = "at"
[[source]]
name = "app"
kind = "events"
path = "taps.jsonl"
channel = "app"
timezone = "UTC"
[source.columns]
source_id = "device"
item_id = "item"
event = "what"
timestamp = "at"
[[source]]
name = "web"
kind = "messages"
path = "chats.jsonl"
channel = "support"
timezone = "UTC"
[source.columns]
source_id = "account"
message_id = "id"
text = "text"
timestamp = "at"
[[source]]
name = "web"
kind = "items"
path = "items.csv"
[source.columns]
item_id = "item"
title = "title"
category_path = "category"
"""
NUM_ITEMS = 24
EVENTS = 4 + 12 + 1  # orders, taps, the message


def write_raw(folder: Path, num_people: int, without: Collection[int] = ()) -> Path:
    """Write the raw files of people 0 … num_people - 1 but some, and return the sources file.

    Person p is account W<p> on the web and device A<p> in the app, with one mail address. One line a
    person in orders.csv has a word for a price and is refused; EVENTS others become events.
    """
    folder.mkdir(parents=True)
    accounts, devices, orders, taps, chats = ["account,mail,name,since"], ["device,mail,since"], [], [], []
    orders.append("account,order,item,qty,price,at")
    for person in range(num_people):
        rng = np.random.default_rng(person)  # of the person alone: who else is there changes nothing
        day = 1 + person % 27
        since = f"2025-01-{day:02d} {person % 24:02d}:{person // 24 % 60:02d}:00"
        lines = [f"W{person:05d}", f"p{person}@mail.test", f"Name{person} Sur{person * 7919}", since]
        bought = rng.integers(0, NUM_ITEMS, 5) // (1 + person % 3)
        seen = rng.integers(0, NUM_ITEMS, 12) // (1 + person % 3)
        if person in without:
            continue
        accounts.append(",".join(lines))
        devices.append(f"A{person:05d},p{person}@mail.test,{since}")
        for n, item in enumerate(bought):
            price = "dear" if n == 4 else f"{10 + int(item)}.50"
            orders.append(f"W{person:05d},o{person}-{n},i{item},1,{price},2025-0{2 + n}-{day:02d} 10:00:0{n}")
        for n, item in enumerate(seen):
            at = f"2025-0{2 + n % 6}-{day:02d} 11:{n:02d}:00"
            taps.append(
                json.dumps({"device": f"A{person:05d}", "item": f"i{item}", "what": "view", "at": at})
            )
        text = f"where is my parcel number {person}"
        message = {"account": f"W{person:05d}", "id": f"m{person}", "text": text, "at": "2025-03-01 10:00:00"}
        chats.append(json.dumps(message))
    items = [f"i{n},Thing {n},{'AB'[n % 2]} > {n % 5}" for n in range(NUM_ITEMS)]
    files = {
        "sources.toml": SOURCES.splitlines(),
        "accounts.csv": accounts,
        "devices.csv": devices,
        "orders.csv": orders,
        "taps.jsonl": taps,
        "chats.jsonl": chats,
        "items.csv": ["item,title,category", *items],
    }
    for name, content in files.items():
        (folder / name).write_text("\n".join(content) + "\n", encoding="utf-8")
    return folder / "sources.toml"
