"""Everyday short forms of given names that no string distance finds."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

# One line a name: its long form, then what its bearers are called.
_GROUPS = """
alexander alex sasha xander sandro
alexandra alex sandra sasha alexa
andrew andy drew
anthony tony
antonio toni tono
barbara babs barb
benjamin ben benny
catherine katherine kate katie kathy cathy kitty
charles charlie chuck
charlotte lotte charlie lottie
christopher chris kit topher
christian chris
christina christine chris tina chrissy
daniel dan danny
deborah debbie deb
edward ed eddie ted ned
elisabeth elizabeth liz lizzie beth betty eliza lisa lisbeth elli
eleanor ellie nell nora
emily em emmy
francesca fran franci
francisco paco pancho curro fran
francis frank
franziska franzi
frederick friedrich fred freddie fritz
george georg georgie schorsch
guadalupe lupe
harold harry hal
heinrich heinz heiner
henry harry hank
isabel isabella bella izzy isa
jacob jake
jan johannes
jacqueline jackie
james jim jimmy jamie
jennifer jen jenny
jessica jess jessie
johann johannes hans hannes
john jack johnny
jonathan jon jonny
jose pepe
joseph josef joe jo sepp
joshua josh
judith judy judi
katharina kathi kati katja
lawrence larry
margaret maggie meg peggy greta
margarete margarethe grete gretel greta
maria mia mitzi
maria mary molly polly
matthew matt
matthias matze matt hias
magdalena lena magda leni
helena helene lena ella
sofia sophia sofie sophie
maximilian max maxi
michael mike mick micky michi michel mickey
nathaniel nathan nate
nicholas nick nicky nico
nicolas nico
olivia liv livvy
patricia pat patty trish tricia
patrick pat paddy
peter pete
philip philipp phil
rebecca becky becca
richard dick rick ricky rich
robert bob bobby rob robbie bert
ronald ron ronnie
samuel samantha sam sammy
sebastian seb basti bastian
stephen steven stefan steve
stephanie steffi steph
susan suzanne sue susie
theodore theo ted teddy
theresa therese teresa tess terry resi
thomas tom tommy
timothy tim
victoria vicky tori
walter walt
wilhelm willi willy helmut
william bill billy will willie liam
zachary zach zack
abigail abby abbie
aleksandr sasha
agnieszka aga
dmitri dmitry dima
dolores lola
eduardo edu
ekaterina katya katia
fernando nando
giuseppe peppe beppe pino
guillermo memo
ibrahim ibo
ignacio nacho
johanna hanna hanne
katarzyna kasia
malgorzata gosia
manuel manolo manu
maria masha
maxime max
mehmet memo
mikhail misha
nathalie natalie nath
vladimir vova volodya
yekaterina katya
"""


def _members() -> dict[str, frozenset[int]]:
    groups: dict[str, set[int]] = {}
    for number, line in enumerate(_GROUPS.strip().splitlines()):
        for name in line.split():
            groups.setdefault(name, set()).add(number)
    return {name: frozenset(numbers) for name, numbers in groups.items()}


_MEMBERS = _members()
KNOWN = frozenset(_MEMBERS)


def same_nickname(first: list[str], second: list[str]) -> NDArray[np.bool_]:
    """Whether each pair of folded names (by their first word) can be one name and its short form."""
    words = pl.DataFrame({"a": first, "b": second}, schema={"a": pl.String, "b": pl.String})
    words = words.select(pl.all().str.split(" ").list.first())
    # Few names have a short form: those are looked at one by one.
    both = words.select(pl.all_horizontal(pl.all().is_in(list(_MEMBERS)))).to_series()
    found = np.zeros(len(first), dtype=bool)
    for row, (a, b) in zip(both.arg_true(), words.filter(both).iter_rows(), strict=True):
        found[row] = not _MEMBERS[a].isdisjoint(_MEMBERS[b])
    return found
