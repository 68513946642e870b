"""Security checks for a Triton that faces a network: `python -m shopsight.serving.probe http://HOST:PORT`.

Each check sends a malicious request and passes if the server refuses it and keeps serving. The Triton that
pip installs (24.10) fails some checks, so that it must stay on loopback under a supervisor. Run the checks
against a copy of a production server: a failed check may crash it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3

_FORM_BYTES = 4 * 2**20
_BOMB_BYTES = 256 * 2**20
_NESTING = 200_000
_READY_SECONDS = 60.0


@dataclass(frozen=True)
class Finding:
    """What one check found: `problem` is None when the server passed it."""

    check: str
    problem: str | None


class Probe:
    """The checks of one server.

    `model` is a loaded model with the inputs CUSTOMER_ID and `number_input` (INT64) and the BYTES output
    `text_output`.
    """

    def __init__(self, url: str, model: str, text_output: str, number_input: str) -> None:
        self._url, self._model = url.rstrip("/"), model
        self._text_output, self._number_input = text_output, number_input
        self._pool = urllib3.PoolManager(retries=False, timeout=30.0)

    def run(self) -> list[Finding]:
        """Run all checks, each once the server is ready; raises RuntimeError if it does not become ready."""
        return [Finding(name, self._checked(check)) for name, check in self._checks().items()]

    def _checks(self) -> Mapping[str, Callable[[], str | None]]:
        return {
            "models cannot be loaded": lambda: self._closed(f"repository/models/{self._model}/load"),
            "models cannot be unloaded": lambda: self._closed(f"repository/models/{self._model}/unload"),
            "the repository is not listed": lambda: self._closed("repository/index"),
            "shared memory cannot be registered": lambda: self._closed(
                "systemsharedmemory/region/x/register"
            ),
            "the log cannot be redirected": lambda: self._closed("logging"),
            "traces cannot be written": lambda: self._closed("trace/setting"),
            "absurd shapes are refused": lambda: self._refused(self._request(shape=[1, 2**40])),
            "absurd shapes of numbers are refused": lambda: self._refused(self._numbers([1, 2**40])),
            "negative shapes are refused": lambda: self._refused(self._request(shape=[-1, 1])),
            "shapes that overflow are refused": lambda: self._refused(self._request(shape=[2**62, 8])),
            "classification of texts is refused": lambda: self._refused(self._request(classification=5)),
            "nested arrays are refused": self._nested,
            "malformed JSON is refused": lambda: self._refused(b'{"inputs": [', "application/json"),
            "large forms are refused": lambda: self._refused(
                b"a=" + b"x" * _FORM_BYTES, "application/x-www-form-urlencoded"
            ),
            "compressed bodies are bounded": self._bomb,
        }

    def _checked(self, check: Callable[[], str | None]) -> str | None:
        self.wait_until_ready()
        try:
            problem = check()
        except urllib3.exceptions.HTTPError as error:
            problem = f"no answer ({type(error).__name__})"
        time.sleep(0.2)  # a server that crashes ends a moment later
        return problem if self._ready() else f"the server ended{f': {problem}' if problem else ''}"

    def _ready(self) -> bool:
        try:
            asked = f"{self._url}/v2/models/{self._model}/ready"
            return bool(self._pool.request("GET", asked, timeout=5.0).status == 200)
        except urllib3.exceptions.HTTPError:
            return False

    def wait_until_ready(self) -> None:
        """Wait until the model serves; raises RuntimeError if it does not within a minute."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self._ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self._url} is not ready; start it again, under a supervisor")
            time.sleep(0.5)

    def _closed(self, path: str) -> str | None:
        status = self._post(f"v2/{path}", b"{}", "application/json")
        return None if status == 403 else f"answered {status}, expected 403"

    def _refused(self, body: Any, content_type: str = "application/json", **headers: str) -> str | None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        status = self._post(f"v2/models/{self._model}/infer", content, content_type, **headers)
        return None if 400 <= status < 600 else f"answered {status}, expected a refusal"

    def _nested(self) -> str | None:
        array = b"[" * _NESTING + b"]" * _NESTING
        whole = json.dumps(self._request()).encode().replace(b'["x"]', array)
        return self._refused(whole)

    def _bomb(self) -> str | None:
        return self._refused(
            gzip.compress(bytes(_BOMB_BYTES)), "application/json", **{"Content-Encoding": "gzip"}
        )

    def _post(self, path: str, body: bytes, content_type: str, **headers: str) -> int:
        sent = {"Content-Type": content_type, **headers}
        return int(self._pool.request("POST", f"{self._url}/{path}", body=body, headers=sent).status)

    def _request(self, shape: list[int] | None = None, classification: int = 0) -> dict[str, Any]:
        given = {"name": "CUSTOMER_ID", "datatype": "BYTES", "shape": shape or [1, 1], "data": ["x"]}
        parameters = {"classification": classification} if classification else {}
        return {"inputs": [given], "outputs": [{"name": self._text_output, "parameters": parameters}]}

    def _numbers(self, shape: list[int]) -> dict[str, Any]:
        given = {"name": self._number_input, "datatype": "INT64", "shape": shape, "data": [1]}
        return {"inputs": [given]}


def main() -> None:
    """Print each check with what was found; exit 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m shopsight.serving.probe", description=__doc__)
    parser.add_argument("url", help="address of the HTTP endpoint, as http://127.0.0.1:8000")
    parser.add_argument("--model", default="recommend", help="a model that takes CUSTOMER_ID")
    parser.add_argument("--output", default="ITEM_ID", help="an output of it that holds texts")
    parser.add_argument("--numbers", default="HISTORY_TIME", help="an input of it that holds INT64")
    asked = parser.parse_args()
    findings = Probe(asked.url, asked.model, asked.output, asked.numbers).run()
    for finding in findings:
        print(f"{'failed' if finding.problem else 'passed'}  {finding.check}" + _reason(finding))
    sys.exit(1 if any(finding.problem for finding in findings) else 0)


def _reason(finding: Finding) -> str:
    return f": {finding.problem}" if finding.problem else ""


if __name__ == "__main__":
    main()
