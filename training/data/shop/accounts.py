"""Account records of each channel, with the channel's ids, gaps, typos and duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from shopsight.training.data.shop.people import phrases, plain

_MODULUS = 2_147_483_647  # a prime: multiplying modulo it scrambles ids without a collision


@dataclass(frozen=True)
class Channel:
    """How one channel keeps its records: id shape, and how often it has what."""

    name: str
    multiplier: int
    prefix: str
    digits: int
    double_share: float  # of its people who have a second account
    email: float
    phone: float
    birth_date: float
    loyalty: float  # who has a card and wrote its number here
    careless: float  # scales the typos: tills are typed by others


CHANNELS = (
    Channel("web", 48_271, "W", 10, 0.04, 0.97, 0.66, 0.72, 0.38, 0.8),
    Channel("app", 69_621, "a-", 10, 0.03, 0.96, 0.82, 0.76, 0.0, 0.8),
    Channel("store", 16_807, "29", 11, 0.04, 0.84, 0.74, 0.88, 1.0, 1.5),
    Channel("reviews", 39_373, "r", 10, 0.02, 0.97, 0.0, 0.0, 0.0, 1.0),
    Channel("social", 742_938, "@", 0, 0.02, 0.88, 0.45, 0.0, 0.0, 1.0),
    Channel("support", 950_706, "C-", 10, 0.03, 0.89, 0.70, 0.0, 0.30, 1.0),
)  # fmt: skip


_OPTIONAL = ("email", "phone", "birth_date", "street", "postcode", "loyalty_number")


def draw_accounts(
    people: pl.DataFrame, members: dict[str, np.ndarray], rng: np.random.Generator
) -> pl.DataFrame:
    """Return one row per account of every channel, in the order of CHANNELS.

    members: per channel, whether a person ([num] bool) has an account there. Columns: source, source_id,
    row (of the person in `people`), and the record as that channel wrote it: given_name, surname, full_name,
    email, phone, birth_date, street, city, postcode, country, loyalty_number, registered_day.
    """
    return pl.concat([_records(channel, people, members, rng) for channel in CHANNELS])


def source_ids(channel: Channel, numbers: np.ndarray, second: np.ndarray, handles: list[str]) -> list[str]:
    """Return the ids of accounts in one channel; `numbers` are people, `second` marks second accounts."""
    scrambled = (2 * numbers.astype(np.int64) + second + 1) * channel.multiplier % _MODULUS
    if channel.name == "social":
        return [f"@{h}{s % 1000:03d}_{s // 1000:x}" for h, s in zip(handles, scrambled, strict=True)]
    return [f"{channel.prefix}{s:0{channel.digits}d}" for s in scrambled]


def _records(
    channel: Channel, people: pl.DataFrame, members: dict[str, np.ndarray], rng: np.random.Generator
) -> pl.DataFrame:
    first = np.flatnonzero(members[channel.name])
    again = first[rng.random(first.size) < channel.double_share]
    row = np.concatenate([first, again])
    second = np.arange(row.size) >= first.size
    p = people[row]
    num, trap = row.size, p["trap"].to_numpy()
    numbers = p["number"].to_numpy()
    given, surname = _names(channel, p, rng)
    has_card = members["store"][row]
    card = source_ids(CHANNELS[2], numbers, np.zeros(num, dtype=np.int64), [])
    email, phone = _mail(channel, p, second, rng), _phone(channel, p, rng)
    # Similar people are distinguished by birth date, or by a personal mail address.
    birth = _sometimes(
        p["birth_date"].to_list(),
        np.where(trap != "", float(channel.birth_date > 0), channel.birth_date),
        rng,
    )
    loyalty = _sometimes(card, np.where(has_card, channel.loyalty, 0.0), rng)
    ids = source_ids(channel, numbers, second, [plain(g)[:8] for g in p["given"]])
    if channel.name == "store":
        loyalty = list(ids)
    email, phone = _reachable(email, phone, birth, loyalty, p, rng)
    return pl.DataFrame(
        {
            "source": [channel.name] * num,
            "source_id": ids,
            "row": row,
            "second": second,
            "given_name": given,
            "surname": surname,
            "email": email,
            "phone": phone,
            "birth_date": birth,
            "street": _street(p, channel, rng),
            "city": p["city"],
            "postcode": _sometimes(p["postcode"].to_list(), np.full(num, 0.93), rng),
            "country": p["country"],
            "loyalty_number": loyalty,
        },
        schema_overrides=dict.fromkeys(_OPTIONAL, pl.String),
    )


def _sometimes(values: list[str], share: np.ndarray, rng: np.random.Generator) -> list[str | None]:
    kept = rng.random(len(values)) < share
    return [v if k else None for v, k in zip(values, kept, strict=True)]


def _names(channel: Channel, p: pl.DataFrame, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Write names as the channel has them: nicknames, initials, typos, other letters, swapped."""
    nicknames = phrases("names")["nicknames"]
    given, surname = p["given"].to_list(), p["surname"].to_list()
    # The app keeps Chinese names in hanzi; the other channels mostly in pinyin.
    hanzi = rng.random(p.height) < {"app": 0.8, "support": 0.5, "social": 0.3}.get(channel.name, 0.05)
    folded, nick, initial, swapped, slip_g, slip_s, capital = rng.random((7, p.height))
    given_hanzi, surname_hanzi = p["given_hanzi"].to_list(), p["surname_hanzi"].to_list()
    for i in range(p.height):
        if given_hanzi[i] and hanzi[i]:
            given[i], surname[i] = given_hanzi[i], surname_hanzi[i]
            continue
        if nick[i] < 0.25:
            given[i] = nicknames.get(given[i], given[i])
        if initial[i] < (0.30 if channel.name in ("reviews", "social") else 0.02):
            surname[i] = f"{surname[i][0]}."
        if folded[i] < 0.25:
            given[i], surname[i] = plain(given[i]).title(), plain(surname[i]).title()
        if slip_g[i] < 0.02 * channel.careless:
            given[i] = slip(given[i], rng)
        if slip_s[i] < 0.03 * channel.careless:
            surname[i] = slip(surname[i], rng)
        if capital[i] < 0.03:
            given[i], surname[i] = given[i].upper(), surname[i].upper()
        if swapped[i] < 0.015:
            given[i], surname[i] = surname[i], given[i]
    return given, surname


def slip(word: str, rng: np.random.Generator) -> str:
    """Return a word with one slip of the finger: a letter doubled, dropped, replaced or two swapped."""
    if len(word) < 3:
        return word
    kind, at = int(rng.integers(4)), int(rng.integers(1, len(word) - 1))
    if kind == 0:
        return word[:at] + word[at] + word[at:]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + "abcdeilnorstu"[int(rng.integers(13))] + word[at + 1 :]


def _mail(
    channel: Channel, p: pl.DataFrame, second: np.ndarray, rng: np.random.Generator
) -> list[str | None]:
    now, old = p["email"].to_list(), p["old_email"].to_list()
    change, typo, capital = rng.random((3, p.height))
    out: list[str | None] = _sometimes(now, np.full(p.height, channel.email), rng)
    for i, mail in enumerate(out):
        if mail is None:
            continue
        if change[i] < (0.4 if second[i] else 0.045):
            out[i] = old[i]
        elif typo[i] < 0.012 * channel.careless:
            local, domain = mail.split("@")
            out[i] = f"{slip(local, rng)}@{domain}"
        elif capital[i] < 0.06:
            out[i] = mail.title() if capital[i] < 0.03 else mail.upper()
    return out


def _phone(channel: Channel, p: pl.DataFrame, rng: np.random.Generator) -> list[str | None]:
    land, typo, shape = rng.random((3, p.height))
    mobiles, landlines = p["mobile"].to_list(), p["landline"].to_list()
    codes = p["calling_code"].to_list()
    numbers = [lo if x < 0.08 else mo for x, mo, lo in zip(land, mobiles, landlines, strict=True)]
    out = _sometimes(numbers, np.full(p.height, channel.phone), rng)
    national = channel.name in ("web", "store")  # these also know the country
    for i, phone in enumerate(out):
        if phone is None:
            continue
        digits = phone[1 + len(codes[i]) :]
        if typo[i] < 0.012 * channel.careless:
            digits = digits[:-1] + str((int(digits[-1]) + 3) % 10)
        if national and shape[i] < 0.4 and codes[i] != "86":
            trunk = "" if codes[i] == "34" else "0"
            out[i] = f"{trunk}{digits[:3]} {digits[3:]}" if shape[i] < 0.2 else f"{trunk}{digits}"
        elif shape[i] < 0.6:
            out[i] = f"00{codes[i]}{digits}"
        elif shape[i] < 0.8:
            out[i] = f"+{codes[i]} {digits[:3]} {digits[3:6]} {digits[6:]}"
        else:
            out[i] = f"+{codes[i]}{digits}"
    return out


def _reachable(
    email: list[str | None],
    phone: list[str | None],
    birth: list[str | None],
    loyalty: list[str | None],
    p: pl.DataFrame,
    rng: np.random.Generator,
) -> tuple[list[str | None], list[str | None]]:
    """Give back the mail address to nearly all records that have no key at all: nobody could join them."""
    keep = rng.random(p.height)
    mails = p["email"].to_list()
    for i in range(p.height):
        if (
            email[i] is None
            and phone[i] is None
            and loyalty[i] is None
            and birth[i] is None
            and keep[i] < 0.9
        ):
            email[i] = mails[i]
    return email, phone


def _street(p: pl.DataFrame, channel: Channel, rng: np.random.Generator) -> list[str | None]:
    out = _sometimes(p["street"].to_list(), np.full(p.height, 0.9), rng)
    draws = rng.random(p.height)
    shorter = (
        ("straße", "str."),
        ("Street", "St"),
        ("Road", "Rd"),
        ("avenue", "av."),
        ("boulevard", "bd"),
        ("Calle ", "C/ "),
    )
    for i, street in enumerate(out):
        if street is None:
            continue
        if draws[i] < 0.3:
            for long, short in shorter:
                street = street.replace(long, short)
        elif draws[i] < 0.3 + 0.03 * channel.careless:
            street = slip(street, rng)
        out[i] = street
    return out
