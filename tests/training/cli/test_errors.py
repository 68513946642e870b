"""What the command line tells of an error is what the error says."""

from __future__ import annotations

import pytest

from shopsight.serving.release import ReleaseError
from shopsight.training.cli import main as cli


@pytest.mark.parametrize(
    "message",
    ["/data/[/x]/a.csv: missing", "one of ['a', 'b']", "[red]not red[/red] [bold]", "a$b_c\\[d]", "[/]"],
)
def test_an_error_is_told_word_for_word(
    message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: object) -> None:
        raise ReleaseError(message)

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert capsys.readouterr().err == f"error: {message}\n"
