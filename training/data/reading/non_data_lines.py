"""Finds lines of an export that are not data: repeated headers and rows of totals."""

from __future__ import annotations

import csv
import re

import numba
import numpy as np
from numpy.typing import NDArray

from shopsight.training.data.reading.records import Block, Positions

# How exports begin a row of totals.
_TOTAL_WORDS = """
total, totals, grand total, grand totals, subtotal, sub-total, sub total, sum, sums, total general,
total général, sous-total, somme, totale, totale complessivo, subtotale, totaal, subtotaal, eindtotaal,
summe, gesamt, gesamtsumme, gesamtbetrag, zwischensumme, endsumme, insgesamt, totalt, summa, delsumma, i alt,
sammanlagt, yhteensä, kokku, suma, suma total, razem, celkem, součet, spolu, összesen, ukupno, skupaj,
iš viso, kopā, toplam, genel toplam, итого, всего, сумма, разом, усього, σύνολο, 合计, 总计, 小计, 总数, 合計,
總計, 小計, 総計, 합계, 총계, 소계, tổng cộng, jumlah, المجموع, الإجمالي
"""
TOTAL_WORDS = frozenset(word.strip() for word in _TOTAL_WORDS.split(","))
_LEAST_EMPTY = 0.25  # of the fields of a row of totals
_KEY_BYTES = 3


def _keys() -> NDArray[np.int64]:
    spellings = {way(word) for word in TOTAL_WORDS for way in (str.lower, str.upper, str.capitalize)}
    heads = {spelling.encode()[:_KEY_BYTES] for spelling in spellings}
    return np.array(sorted(int.from_bytes(head, "big") for head in heads), dtype=np.int64)


_KEYS = _keys()
_FIRSTS = np.isin(np.arange(256), _KEYS >> 16)


def find_non_data_lines(block: Block, header: bytes, separator: str) -> tuple[Positions, Positions]:
    """The indices of the records that are the header once more, and of those that are totals."""
    kinds = np.zeros(len(block), dtype=np.uint8)
    data, wanted = np.frombuffer(block.data, np.uint8), np.frombuffer(header, np.uint8)
    _find(data, block.starts, block.stops, wanted, ord(separator), _FIRSTS, _KEYS, kinds)
    suspects = np.flatnonzero(kinds == 2)
    totals = [i for i in suspects.tolist() if _is_total(block.text(i), separator)]
    return np.flatnonzero(kinds == 1), np.array(totals, dtype=np.int64)


def _is_total(record: str, separator: str) -> bool:
    try:
        fields = next(csv.reader([record], delimiter=separator), [])
    except csv.Error:
        return False
    filled = [field.strip() for field in fields if field.strip()]
    if len(filled) > (1 - _LEAST_EMPTY) * len(fields) and len(filled) > 2:
        return False
    return re.sub(r"[\s:=()\d.,€$£¥#-]+$", "", filled[0]).lower() in TOTAL_WORDS if filled else False


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _find(data, starts, stops, header, sep, firsts, keys, kinds):  # type: ignore[no-untyped-def]
    for i in range(starts.size):
        k, stop = starts[i], stops[i]
        if stop - k >= 3 and data[k] == 0xEF and data[k + 1] == 0xBB and data[k + 2] == 0xBF:
            k += 3  # the byte order mark of a file that was appended
        if stop - k == header.size:
            same = 0
            while same < header.size and data[k + same] == header[same]:
                same += 1
            if same == header.size:
                kinds[i] = 1
                continue
        while k < stop and (data[k] == sep or data[k] == 34 or data[k] == 32 or data[k] == 61):
            k += 1
        if k + 2 < stop and firsts[data[k]]:
            key = (np.int64(data[k]) << 16) | (np.int64(data[k + 1]) << 8) | np.int64(data[k + 2])
            at = np.searchsorted(keys, key)
            if at < keys.size and keys[at] == key:
                kinds[i] = 2
