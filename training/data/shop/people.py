"""People in households: names of several cultures, addresses, and misleading similarities."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import polars as pl

_HOUSEHOLD_SIZES = ((1, 0.58), (2, 0.27), (3, 0.09), (4, 0.06))
_DOMAINS = (
    "mailbox",
    "postfach",
    "courriel",
    "inbox",
    "freemail",
    "webpost",
    "correo",
    "mymail",
    "letterbox",
    "sendit",
)
_PRIME = (
    10_000_019  # above the most customers: multiplying modulo it gives every person a number of their own
)
_CULTURAL = ("country", "calling_code", "mobile", "landline")  # alike for all of one culture


@cache
def phrases(name: str) -> dict[str, Any]:
    """Return one file of phrases/ as TOML tables."""
    source = resources.files("shopsight.training.data.shop") / "phrases" / f"{name}.toml"
    return tomllib.loads(source.read_text(encoding="utf-8"))


def draw_people(num: int, first: int, rng: np.random.Generator) -> pl.DataFrame:
    """Draw `num` people, numbered from `first`, in households that share address, landline and surname.

    One in fifty of the larger households has twins (one birth date, one surname), one in fifty a father
    and a son of one name, one in twenty-five a shared mailbox; these are what over-merging falls for.
    Columns: number, household, culture, given, surname, given_hanzi, surname_hanzi, birth_date, email,
    old_email, mobile, landline, street, city, postcode, country, language, trap.
    """
    household, place = _households(num, rng)
    homes = int(household[-1]) + 1
    cultures = {k: v for k, v in phrases("names").items() if k != "nicknames"}
    shares = np.array([c["share"] for c in cultures.values()])
    culture = rng.choice(len(cultures), size=homes, p=shares / shares.sum())[household]
    size = np.bincount(household)[household]
    trap_draw = rng.random(homes)[household]
    twins = (size > 1) & (trap_draw < 0.02)
    namesakes = (size > 1) & (trap_draw > 0.98)
    shared_mail = (size > 1) & (trap_draw > 0.5) & (trap_draw < 0.54)
    # Members of one household have different given names, but for the namesakes; couples are of two sexes.
    name_draw = (
        rng.integers(0, 1_000_000, homes)[household] + np.where(namesakes & (place == 1), 0, place) * 7
    )
    male = (rng.random(homes)[household] < 0.5) ^ ((place % 2 == 1) & ~namesakes) | (namesakes & (place < 2))
    own_surname = (place == 1) & ~twins & ~namesakes & (rng.random(num) < 0.25)
    surname_draw = rng.integers(0, 1_000_000, homes)[household] + np.where(own_surname, 13, 0)
    number = first + np.arange(num)
    traps = [twins & (place < 2), namesakes & (place < 2), shared_mail]
    frame = pl.DataFrame(
        {
            "number": number,
            "household": first + household,
            "birth_date": _birth_dates(household, place, twins, namesakes, rng),
            "trap": np.select(traps, ["twin", "namesake", "shared_mail"], ""),
            **_names_and_places(
                list(cultures.values()), culture, male, name_draw, surname_draw, household, rng
            ),
        }
    )
    return _reach(frame, number, place, shared_mail, rng)


def _households(num: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    sizes, shares = zip(*_HOUSEHOLD_SIZES, strict=True)
    size = rng.choice(sizes, size=num, p=shares)
    household = np.repeat(np.arange(num), size)[:num]
    start = np.searchsorted(household, household)
    return household, np.arange(num) - start


def _birth_dates(
    household: np.ndarray,
    place: np.ndarray,
    twins: np.ndarray,
    namesakes: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw dates of birth: couples within seven years of each other, sons 26 to 30 years after fathers."""
    num = place.size
    adult = rng.integers(2_600, 2_600 + 54 * 365, int(household[-1]) + 1)[household]
    birth = np.where(place == 1, adult + np.where(twins, 0, rng.integers(-2_500, 2_500, num)), adult)
    father = 2_600 + adult // 3
    son = father + rng.integers(26 * 365, 30 * 365, num)
    birth = np.where(namesakes & (place < 2), np.where(place == 0, father, son), birth)
    birth = np.where(place > 1, rng.integers(58 * 365, 70 * 365, num), birth)
    return np.datetime_as_string(np.datetime64("1938-01-01", "D") + birth.astype("timedelta64[D]"))


def _names_and_places(
    cultures: list[dict[str, Any]],
    culture: np.ndarray,
    male: np.ndarray,
    name_draw: np.ndarray,
    surname_draw: np.ndarray,
    household: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    num, homes = culture.size, int(household[-1]) + 1
    columns = ("given", "surname", "given_hanzi", "surname_hanzi", "street", "city", "postcode", *_CULTURAL)
    out = {c: np.full(num, "", dtype=object) for c in (*columns, "language")}
    place_draw, street_draw, house, code = rng.integers(0, 1_000_000, (4, homes))[:, household]
    for index, names in enumerate(cultures):
        rows = np.flatnonzero(culture == index)
        for sex, mask in (("male", male[rows]), ("female", ~male[rows])):
            who = rows[mask]
            out["given"][who] = _pick(names[sex], name_draw[who])
            out["given_hanzi"][who] = _pick(names.get(f"{sex}_hanzi", [""]), name_draw[who])
        out["surname"][rows] = _pick(names["surname"], surname_draw[rows])
        if names.get("two_surnames"):
            second = _pick(names["surname"], surname_draw[rows] // 1_000)
            out["surname"][rows] = [f"{a} {b}" for a, b in zip(out["surname"][rows], second, strict=True)]
        out["surname_hanzi"][rows] = _pick(names.get("surname_hanzi", [""]), surname_draw[rows])
        city = _pick([c.split(":")[0] for c in names["cities"]], place_draw[rows])
        prefix = _pick([c.split(":")[1] for c in names["cities"]], place_draw[rows])
        out["city"][rows] = city
        for column in _CULTURAL:
            out[column][rows] = names[column]
        out["language"][rows] = "zh" if "surname_hanzi" in names else "en"
        street = _pick(names["streets"], street_draw[rows])
        chosen = zip(street, house[rows] % 140 + 1, prefix, code[rows], strict=True)
        written = [_address(names["country"], s, h, p, c) for s, h, p, c in chosen]
        out["street"][rows] = [w[0] for w in written]
        out["postcode"][rows] = [w[1] for w in written]
    return out


def _pick(values: list[str], draws: np.ndarray) -> np.ndarray:
    picked: np.ndarray = np.array(values, dtype=object)[draws % len(values)]
    return picked


def _address(country: str, street: str, house: int, prefix: str, code: int) -> tuple[str, str]:
    if country == "GB":
        return (
            f"{house} {street}",
            f"{prefix} {code % 9 + 1}{chr(65 + code // 9 % 26)}{chr(65 + code // 234 % 26)}",
        )
    if country == "FR":
        return f"{house} {street}", f"{prefix}{code % 1000:03d}"
    return (f"{street}{house}号" if country == "CN" else f"{street} {house}"), f"{prefix}{code % 1000:03d}"


def _reach(
    frame: pl.DataFrame,
    number: np.ndarray,
    place: np.ndarray,
    shared_mail: np.ndarray,
    rng: np.random.Generator,
) -> pl.DataFrame:
    num = frame.height
    own, home = number * 7_919 % _PRIME, (number - place) * 104_729 % _PRIME
    # Two who share a mailbox take the address of the first.
    owner = np.where(shared_mail & (place < 2), np.arange(num) - place, np.arange(num))
    style, domain, firm = (rng.integers(0, high, num) for high in (3, len(_DOMAINS), 90))
    email, old_email = [], []
    for i, (given, surname) in enumerate(frame.select("given", "surname").iter_rows()):
        first, last = plain(given), plain(surname)
        local = (f"{first}.{last}{own[i]}", f"{first}{last[0]}{own[i]}", f"{last}_{first}{own[i]}")[style[i]]
        email.append(f"{local}@{_DOMAINS[domain[i]]}.example")
        old_email.append(f"{first[0]}{last}.{own[i]}@firm{firm[i]}.example")
    return frame.with_columns(
        email=pl.Series(email)[owner],
        old_email=pl.Series(old_email),
        mobile=_dial("mobile", own + 50_000_000),
        landline=_dial("landline", home + 20_000_000),
    )


def _dial(kind: str, number: np.ndarray) -> pl.Expr:
    return pl.concat_str(pl.lit("+"), "calling_code", kind, pl.Series(number).cast(pl.String))


_FOLD = str.maketrans(
    dict(zip("éèêáàíîóôúñçışğ", "eeeaaiioouncisg", strict=True))
    | {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"}
    | dict.fromkeys("' -\u0307", "")
)


def plain(name: str) -> str:
    """Return a name in lower-case ASCII letters, as people write it in a mail address."""
    return name.lower().translate(_FOLD)
