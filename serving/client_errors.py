"""What a caller of the endpoint must be ready for."""

from __future__ import annotations


class ClientError(RuntimeError):
    """The endpoint gave no answer."""


class DeadlineExceededError(ClientError):
    """No answer within the deadline; the server may still have worked on the request."""


class ServerUnavailableError(ClientError):
    """The server cannot be reached, or says that it cannot serve now."""


class RequestRefusedError(ClientError):
    """The server understood the request and refuses it; sending it again changes nothing."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"'{model}' refused the request: {reason}")
        self.model = model
        self.reason = reason


class UnknownCustomerError(RequestRefusedError):
    """The release that answers does not know this customer."""
