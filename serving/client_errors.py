"""The errors that the client raises."""

from __future__ import annotations


class ClientError(RuntimeError):
    """The endpoint gave no answer."""


class DeadlineExceededError(ClientError):
    """No answer within the deadline; the server may have processed the request."""


class ServerUnavailableError(ClientError):
    """The server cannot be reached, or reports that it is unavailable."""


class RequestRefusedError(ClientError):
    """The server refused the request as invalid; a retry would be refused as well."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"'{model}' refused the request: {reason}")
        self.model = model
        self.reason = reason


class UnknownCustomerError(RequestRefusedError):
    """The release that answers does not know this customer."""
