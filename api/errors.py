"""Errors in OpenAI's shape, with its status codes."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from backends.contract import Cause, Failed, PromptTooLong
from errors import CounterpointError

STATUS: dict[Cause, int] = {"input": 400, "context": 400, "adapter": 400, "busy": 429, "work": 503}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def shape(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, object]:
    """The body that says what is wrong."""
    kind = _TYPES.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(status: int, message: str, code: str | None = None, param: str | None = None) -> Response:
    headers = {"retry-after": "1"} if status in (429, 503) else None
    return JSONResponse(shape(status, message, code, param), status, headers)


class NoSuchModel(CounterpointError):
    """A model id that is no mode here."""


class WrongField(CounterpointError):
    """What is wrong with a body; `field` is the one at fault, the first where there are several."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


def refused(error: CounterpointError) -> Response:
    """The answer to a request that failed with that error."""
    if isinstance(error, NoSuchModel):
        return refusal(404, str(error), "model_not_found", "model")
    if isinstance(error, PromptTooLong):
        return refusal(400, str(error), "context_length_exceeded", "messages")
    field = error.field if isinstance(error, WrongField) else None
    return refusal(STATUS[Failed.of("", error).cause], str(error), param=field)
