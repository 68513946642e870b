"""Tables and pages that the serving commands print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from shopsight.serving.release import Release

_SHOWN_FEATURES = 12


def releases_table(releases: Sequence[Release]) -> Table:
    """Return the kept releases, the current one first."""
    table = Table()
    for column in ("release", "published (UTC)", "models", "files", "note"):
        table.add_column(column)
    for position, release in enumerate(releases):
        size = sum(entry.size_bytes for model in release.models.values() for entry in model.files)
        notes = ["current"] if position == 0 else []
        notes += [f"the files of release {release.pins} again"] if release.pins else []
        table.add_row(
            str(release.number),
            release.created_at.removesuffix("+00:00"),
            ", ".join(sorted(release.models)),
            f"{size / 2**20:.1f} MiB",
            "; ".join(notes),
        )
    return table


def status_table(found: dict[str, Any]) -> Table:
    """Return the result of serving/status.py as a table."""
    table = Table(show_header=False)
    server = found["server"]
    table.add_row("repository", escape(found["repository"]))
    table.add_row("release", "none" if found["release"] is None else str(found["release"]))
    table.add_row("Triton", escape(found["triton"]))
    if server is None:
        table.add_row("server", "not running; start one with 'shopsight serve'")
    else:
        table.add_row("server", f"process {server['pid']}, since {server['started_at']}")
        table.add_row("HTTP, gRPC", f"{server['http']}, {server['grpc']}")
    for name, model in found["models"].items():
        table.add_row(name, f"{model['kind']}, {model['problem'] or 'ready'}")
    return table


def insight_page(insight: dict[str, Any], endpoint: str) -> RenderableType:
    """Return the JSON of `insight` as a page to read."""
    parts: list[RenderableType] = []
    if "profile" in insight:
        parts.append(_profile(insight["profile"]))
    if insight.get("understanding"):
        parts.append(_understanding(insight["understanding"]))
    if "recommendations" in insight:
        parts.append(_recommendations(insight["recommendations"], insight.get("suppressed")))
    source = f"release {insight['release']}, Triton at {endpoint}, request {insight['request_id']}"
    return Group(*parts, Text(source, style="dim"))


def _profile(profile: dict[str, Any] | None) -> RenderableType:
    if profile is None:
        return Text("This release does not know the customer: the items are popular ones, not personal.")
    measured = {name: value for name, value in profile["features"].items() if value is not None}
    table = Table(show_header=False, title="measured", title_justify="left")
    for name, value in list(measured.items())[:_SHOWN_FEATURES]:
        table.add_row(escape(name), f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}")
    if len(measured) > _SHOWN_FEATURES:
        table.add_row(f"and {len(measured) - _SHOWN_FEATURES} more", "--json shows all")
    heading = Text.assemble(("Segment: ", "bold"), profile["segment"], "\n", profile["segment_description"])
    return Group(heading, *_forecast(profile), table)


def _forecast(profile: dict[str, Any]) -> Iterator[RenderableType]:
    if "forecast" not in profile:
        return
    told = profile["forecast"]
    if told is None:
        yield Text("No purchases yet: there is no forecast of value or churn.")
        return
    said, low, high = [], told["value_low"], told["value_high"]
    if told["value"] is not None:
        said.append(f"{told['value']:,.2f} {told['currency']} expected, likely {low:,.2f} to {high:,.2f}")
    if told["expected_purchases"] is not None:
        said.append(f"{told['expected_purchases']:.1f} purchases expected")
    if told["churn"] is not None:
        said.append(f"{told['churn']:.0%} chance that there is no purchase")
    yield Text.assemble((f"Next {told['horizon_days']} days: ", "bold"), "; ".join(said) or "no forecast")
    for name, words in (("value", "Money"), ("expected_purchases", "Purchases"), ("churn", "Churn")):
        if told[f"{name}_status"] != "tested":
            yield Text(f"{words}: {told[f'{name}_status']}, {told[f'{name}_reason']}.")


def _understanding(understanding: dict[str, Any]) -> RenderableType:
    said = f"{understanding['intent']} ({understanding['confidence']:.0%} sure)"
    if more := understanding.get("intents", [])[1:]:
        said += f" and {', '.join(more)}"
    if "sentiment" in understanding:
        said += f", {understanding['sentiment']}"
    if understanding["is_out_of_scope"]:
        said += "; probably none of the known intents"
    answer = "none of the shop's answers fits well enough; a person should answer"
    if understanding.get("answer"):
        answer = f"{understanding['answer']} [{understanding['answer_source']}]"
    return Text.assemble(("The message wants: ", "bold"), said, ("\nAnswer: ", "bold"), answer)


def _recommendations(recommendations: Sequence[dict[str, Any]], suppressed: str | None) -> RenderableType:
    if suppressed:
        said = suppressed.replace("_", " ")
        return Text(f"No recommendations now: this customer needs help first ({said}).")
    if not recommendations:
        return Text("No item is left to recommend.")
    table = Table(title="recommended", title_justify="left")
    for column in ("rank", "item", "score", "why"):
        table.add_column(column, justify="right" if column in ("rank", "score") else "left")
    for shown in recommendations:
        why = shown["reason_code"].replace("_", " ")
        table.add_row(str(shown["rank"]), escape(shown["item_id"]), f"{shown['score']:.4f}", why)
    return table
