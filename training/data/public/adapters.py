"""Public data sets made ready for ingest: a sources file, and conversion where a format needs it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

from shopsight.training.data.errors import IngestError
from shopsight.training.data.public.completejourney import convert
from shopsight.training.data.sources.faults import nearest

Adapter = Callable[[Path, Path], Path]

_PUBLIC = Path(__file__).parent
OUT_OF_SCOPE = "out_of_scope"
_CLINC_SPLITS = {
    "train": "train",
    "val": "validation",
    "test": "test",
    "oos_train": "train",
    "oos_val": "validation",
    "oos_test": "test",
}


def adapt(name: str, path: Path, out: Path) -> Path:
    """Write a sources file for a public data set at `path` (its file or folder) into `out` and return it.

    Raises IngestError for a name without an adapter, and for data that is not there or not what it should be.
    """
    if name not in ADAPTERS:
        raise IngestError(f'no adapter "{name}"{nearest(name, ADAPTERS)}')
    return ADAPTERS[name](path, out)


def online_retail(path: Path, out: Path) -> Path:
    """UCI Online Retail: a year of a British gift shop's order lines (541,909 rows, dirty on purpose).

    The data stays where it is; the sources file names it by its absolute path.
    """
    data = _find(path, ("online_retail.csv.gz", "online_retail.csv", "OnlineRetail.csv", "data.csv"))
    text = (_PUBLIC / "online_retail.toml").read_text(encoding="utf-8")
    quoted = json.dumps(str(data.resolve()), ensure_ascii=False)
    return _write_sources(out, text.replace('"online_retail.csv.gz"', quoted))


def clinc150(path: Path, out: Path) -> Path:
    """CLINC150: 22,500 questions with 150 intents, and 1,200 that are out of scope.

    Its splits of [text, intent] become rows of messages.jsonl. Out-of-scope texts are kept, labelled
    "out_of_scope" in the split they were published in; whether to train on them is the trainer's choice.
    """
    data = _find(path, ("data_full.json.gz", "data_full.json"))
    try:
        content = data.read_bytes()
        splits = json.loads(gzip.decompress(content) if data.suffix == ".gz" else content)
        rows = [
            {
                "message_id": f"{split}-{number}",
                "text": text,
                "intent": OUT_OF_SCOPE if intent == "oos" else intent,
                "split": _CLINC_SPLITS[split],
            }
            for split in _CLINC_SPLITS
            for number, (text, intent) in enumerate(splits.get(split, []))
        ]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise IngestError(f"{data}: not CLINC150's JSON of splits with [text, intent] ({error})") from error
    if not rows:
        raise IngestError(f"{data}: holds none of the splits {', '.join(_CLINC_SPLITS)}")
    out.mkdir(parents=True, exist_ok=True)
    with (out / "messages.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return _write_sources(out, (_PUBLIC / "clinc150.toml").read_text(encoding="utf-8"))


def completejourney(path: Path, out: Path) -> Path:
    """The Complete Journey: a year of a grocer's households in eight tables, with campaigns and coupons."""
    out.mkdir(parents=True, exist_ok=True)
    convert(path, out)
    return _write_sources(out, (_PUBLIC / "completejourney.toml").read_text(encoding="utf-8"))


ADAPTERS: dict[str, Adapter] = {
    "online_retail": online_retail,
    "completejourney": completejourney,
    "clinc150": clinc150,
}


def _find(path: Path, names: tuple[str, ...]) -> Path:
    if path.is_file():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    raise IngestError(f"{path}: holds none of {', '.join(names)}; give the folder or the file itself")


def _write_sources(out: Path, text: str) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    target = out / "sources.toml"
    target.write_text(text, encoding="utf-8")
    return target
