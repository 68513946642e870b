"""A first sources file for raw files that nobody has described: columns are recognised by their names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from training.data.readers import files_of, header_of, read_chunks
from training.data.sources import FIELDS, FORMAT_VERSION, REQUIRED, IngestError, Source, load_sources
from training.data.tables import EVENT_TYPES
from training.data.times import parse_times

# Our field and what others call it, in lower case without anything but letters and digits; best first.
_ALIASES: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "source_id": "sourceid customerid userid visitorid accountid clientid memberid householdid contactid"
        " cardno cardnumber profileid reviewerid handleid card customer user visitor account handle"
        " contact uid who by",
        "item_id": "itemid productid sku stockcode articleid article productcode asin parentasin item"
        " product",
        "order_id": "orderid invoiceno invoiceid invoice orderno ordernumber receipt basketid transactionid"
        " order",
        "line_id": "lineid lineno linenumber line position",
        "session_id": "sessionid session visitid usersession",
        "request_id": "requestid request impressionid",
        "message_id": "messageid reviewid postid ticketid commentid tweetid",
        "answer_id": "answerid faqid",
        "event": "event eventtype eventname action activity interaction type",
        "timestamp": "timestamp eventtime datetime invoicedate orderdate orderedat createdat time ts date"
        " transactiontimestamp purchasedate writtenat sentat postedat shownat tilltime sent at when",
        "quantity": "quantity qty pieces units amountordered count",
        "price": "unitprice price itemprice saleprice salesvalue unit amount",
        "cost": "cost unitcost costprice",
        "currency": "currency currencycode",
        "discount": "discount discountamount retaildisc rebate",
        "rating": "rating stars score overall",
        "given_name": "givenname firstname first forename",
        "family_name": "familyname lastname surname last",
        "full_name": "fullname name customername displayname holder contactname penname",
        "email": "email mail emailaddress emailaddr",
        "phone": "phone mobile telephone phonenumber tel cell",
        "loyalty_number": "loyaltynumber loyaltyno loyaltyid membershipnumber",
        "birth_date": "birthdate dateofbirth dob birthday born",
        "street": "street address address1 streetaddress addressline1",
        "city": "city town suburb",
        "postcode": "postcode zip zipcode postalcode plz",
        "country": "country countrycode",
        "state": "state region province",
        "gov_id": "govid socsecid ssn nationalid taxid",
        "registered_at": "registeredat signupdate registrationdate createdat issuedat opened joined since",
        "title": "title productname itemname description name",
        "category_path": "categorypath category categories productcategory department warengruppe",
        "brand": "brand manufacturer vendor",
        "attributes": "attributes properties features",
        "image_path": "imagepath image imageurl",
        "available_from": "availablefrom launchedat launchdate",
        "available_to": "availableto withdrawnat discontinued",
        "text": "text message body review content comment utterance sentence reviewtext tweet",
        "language": "language lang locale",
        "intent": "intent category label topic",
        "sentiment": "sentiment mood polarity",
        "split": "split fold",
        "question": "question title",
        "answer": "answer text response",
        "rank": "rank position slot",
        "experiment": "experiment test campaign",
        "arm": "arm variant group",
        "propensity": "propensity probability",
        "task": "task",
        "label": "label class",
    }.items()
}
# A bare id is the key of what the file lists.
_KEY_OF = {
    "customers": "source_id",
    "items": "item_id",
    "messages": "message_id",
    "reviews": "message_id",
    "answers": "answer_id",
}
# What a file of each kind must have, and what it must not; the first kind that fits is taken.
_SIGNS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("exposures", ("request_id", "item_id", "rank"), ("event",)),
    ("answers", ("question", "answer"), ("source_id",)),
    ("labels", ("message_id", "task", "label"), ()),
    ("reviews", ("text", "item_id"), ("order_id",)),
    ("reviews", ("text", "rating"), ("order_id",)),
    ("orders", ("order_id", "item_id", "quantity", "timestamp"), ("event",)),
    ("events", ("event", "timestamp"), ("text",)),
    ("customers", ("email",), ("item_id", "text")),
    ("customers", ("family_name",), ("item_id", "text")),
    ("customers", ("birth_date",), ("item_id", "text")),
    ("customers", ("phone",), ("item_id", "text")),
    ("messages", ("text",), ("item_id",)),
    ("items", ("item_id", "title"), ("quantity",)),
    ("items", ("item_id", "category_path"), ("quantity",)),
)
_EVENT_WORDS: dict[str, tuple[str, ...]] = {
    "view": ("view", "pageview", "screenview", "click", "detail", "impression", "pv"),
    "cart": ("cart", "addtocart", "addtobasket", "basket", "atc"),
    "purchase": ("purchase", "transaction", "order", "buy", "checkout", "sale"),
    "return": ("return", "refund", "sendback"),
    "rating": ("rating", "rate", "stars"),
    "search": ("search", "query"),
}
_KIND_WORDS = re.compile(
    r"events?|orders?|accounts?|customers?|items?|products?|reviews?|messages?|posts?|profiles?|contacts?|users?"
    r"|transactions?|catalogu?e|articles?|faq|policies|clicks?|cards?|exposures?|authors?|labels?|data|export"
)
_SAMPLE_ROWS = 20_000


@dataclass(frozen=True)
class _Proposal:
    """What one file seems to be."""

    path: Path
    kind: str
    name: str
    columns: dict[str, str]
    unused: list[str]
    sample: pl.DataFrame


def validate(files: Sequence[Path], out: Path) -> list[str]:
    """Write a first sources file for raw files and return a line for each on what was recognised.

    Raises IngestError when no file is recognised, or `out` exists: a file that someone has edited is not
    overwritten.
    """
    if out.exists():
        raise IngestError(f"{out} exists; name another file with --out, or remove it")
    lines, parts = [], [f"format_version = {FORMAT_VERSION}"]
    proposals = []
    for path in files:
        proposal, line = _recognise(path)
        lines.append(line)
        if proposal is not None:
            proposals.append(proposal)
    if not proposals:
        raise IngestError("none of the files is recognised:\n" + "\n".join(lines))
    for proposal in proposals:
        parts += _entries(proposal, proposals, out)
    staged = out.with_name(f".{out.name}.{os.getpid()}")
    staged.write_text("\n".join(parts) + "\n", encoding="utf-8")
    try:
        load_sources(staged)
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)
    return lines


def _recognise(path: Path) -> tuple[_Proposal | None, str]:
    probe = Source(name=path.name, kind="messages", path=path.name, base=path.resolve().parent)
    files_of(probe)
    header = header_of(probe, path)
    plain = {re.sub(r"[^a-z0-9]", "", column.lower()): column for column in reversed(header)}
    found = {field: [plain[a] for a in aliases if a in plain] for field, aliases in _ALIASES.items()}
    for kind, needed, excluded in _SIGNS:
        have = {name for name, columns in found.items() if columns}
        key = _KEY_OF.get(kind)
        if "id" in plain and key and not found[key]:
            have.add(key)
        if set(needed) <= have and not any(name in have for name in excluded):
            break
    else:
        return None, f"{path.name}: not recognised; its columns are {', '.join(header)}"
    columns: dict[str, str] = {}
    fields = sorted(FIELDS[kind], key=lambda name: name not in (*REQUIRED[kind], *needed, "source_id"))
    for name in fields:
        free = [column for column in found[name] if column not in columns.values()] if name in found else []
        if not free and name == key and "id" in plain:
            free = [plain["id"]]
        if free and name != "channel":
            columns[name] = free[0]
    missing = [name for name in REQUIRED[kind] if name not in columns]
    if missing:
        return None, f"{path.name}: looks like {kind}, but nothing was recognised as {', '.join(missing)}"
    unused = [column for column in header if column not in columns.values()]
    sample = _sample(Source(name="x", kind=kind, path=path.name, base=probe.base, columns=columns), path)
    words = [w for w in re.split(r"[^a-z0-9]+", path.name.lower().split(".")[0]) if w]
    name = "_".join(w for w in words if not _KIND_WORDS.fullmatch(w)) or "shop"
    mapped = ", ".join(f"{ours} = {theirs}" for ours, theirs in columns.items())
    line = f"{path.name}: {kind} of {name}; {mapped}"
    if "timestamp" in columns:
        texts = sample["timestamp"].drop_nulls()
        share = parse_times(texts).is_not_null().mean() if texts.len() else 1.0
        if isinstance(share, float) and share < 0.9:
            line += f"; only {share:.0%} of the times were understood: set timestamp_format"
    return _Proposal(path, kind, name, columns, unused, sample), line + (
        f"; not used: {', '.join(unused)}" if unused else ""
    )


def _sample(source: Source, path: Path) -> pl.DataFrame:
    return next(iter(read_chunks(source, path))).rows.head(_SAMPLE_ROWS)


def _entries(proposal: _Proposal, all_of_them: list[_Proposal], out: Path) -> list[str]:
    """The [[source]] of a file, and those of the facts that only order lines have."""
    flags = []
    if "source_id" not in proposal.columns and proposal.kind in ("events", "orders", "exposures"):
        flags.append("anonymous = true")
    if proposal.kind == "orders" and proposal.sample["order_id"].str.contains(r"^C\d").any():
        flags.append('cancelled_order_prefix = "C"')
    lines = _entry(proposal, proposal.kind, proposal.columns, flags, out)
    if proposal.kind == "events":
        lines += _event_words(proposal)
    if proposal.kind != "orders":
        return lines
    plain = {re.sub(r"[^a-z0-9]", "", column.lower()): column for column in proposal.unused}
    kinds = {other.kind for other in all_of_them}
    for kind, key, names in (
        ("items", "item_id", ("title", "category_path", "brand")),
        ("customers", "source_id", ("country", "city", "state")),
    ):
        extra = {name: plain[a] for name in names for a in _ALIASES[name] if a in plain}
        if extra and kind not in kinds and key in proposal.columns:
            extra = {key: proposal.columns[key], **extra}
            if kind == "items" and "price" in proposal.columns:
                extra["price"] = proposal.columns["price"]
            lines += _entry(proposal, kind, extra, ["derived = true"], out)
    return lines


def _entry(proposal: _Proposal, kind: str, columns: dict[str, str], flags: list[str], out: Path) -> list[str]:
    path, folder = proposal.path.resolve(), out.resolve().parent
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    head = [
        "",
        "[[source]]",
        f"name = {_quoted(proposal.name)}",
        f'kind = "{kind}"',
        f"path = {_quoted(str(shown))}",
    ]
    if kind in ("events", "orders"):
        flags = ['timezone = "UTC"  # of times without an offset: check', *flags]
    mapping = [f"{ours} = {_quoted(theirs)}" for ours, theirs in columns.items()]
    return [*head, *flags, "[source.columns]", *mapping]


def _event_words(proposal: _Proposal) -> list[str]:
    raw = proposal.sample["event"].drop_nulls().str.strip_chars().unique().sort().head(100)
    lines = []
    for value in raw.to_list():
        plain = re.sub(r"[^a-z]", "", value.lower())
        ours = next((event for event, words in _EVENT_WORDS.items() if plain in words), None)
        if ours is not None and value.lower() != ours:
            lines.append(f'{_quoted(value)} = "{ours}"')
        elif ours is None and value.lower() not in EVENT_TYPES:
            lines.append(f"# {_quoted(value)} = … one of {', '.join(EVENT_TYPES)}")
    return ["[source.values.event]", *lines] if lines else []


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
