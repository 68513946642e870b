"""From raw files to segments in words: make a small shop, ingest it, train profiles, read what came out.

Run it from anywhere: python examples/shop_to_segments.py
"""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from shopsight import Workspace, ingest, recipe, scan_table, train
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.shop import ShopSpec, make_shop

with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    make_shop(ShopSpec(num_customers=300, seed=0), root / "raw", root / "truth")

    workspace = Workspace(root / "workspace")
    report = ingest(
        root / "raw" / "sources.toml", workspace, PseudonymKey("example", secrets.token_bytes(32))
    )
    print(f"{report.accepted:,} rows accepted, {report.read - report.accepted:,} refused with their reasons")

    customers = scan_table(workspace.tables, "customers").collect()
    print(f"{customers.height:,} customers, first: {customers['customer_id'][0]}")

    figures = train(workspace, recipe("default"), "profiles", print)
    for segment in figures["segments"]:
        print(f"{segment['name']}: {segment['num_customers']:,} customers")
