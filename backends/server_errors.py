"""What went wrong with a server of the OpenAI API: in plain words, and whether to try again."""

from __future__ import annotations

import contextlib
import re
import ssl
from typing import Any

from backends.contract import PromptTooLong
from errors import Busy, CounterpointError, WorkFailed

PASSING = frozenset({429, 500, 502, 503})
"""Statuses of trouble that may have passed a moment later."""
PAUSE_S = 0.5
"""Before the first further try; twice as long before the next."""
LONGEST_PAUSE_S = 20.0
"""Who asks for a longer one (Retry-After) is not asked again."""
_UNSUPPORTED = frozenset({"unsupported_parameter", "unsupported_value"})
_UNKNOWN_NAME = re.compile(r'Unknown name "([^"]+)"')
"""How Google's servers refuse a parameter: with no code of its own, and several at once."""
NONSENSE = (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)
"""What reading an answer raises that is none of the OpenAI API."""


class Down(WorkFailed):
    """A server that cannot be reached, says nothing, or fails: all others answer, if only to refuse."""


class BrokenOff(Exception):
    """A stream that ended before its answer did."""


def pause(error: Exception, tried: int) -> float | None:
    """Seconds before a further try after this failure, or None where it would not help."""
    import openai

    seconds = PAUSE_S * 2**tried
    if isinstance(error, openai.APIStatusError):
        headers = error.response.headers
        if error.status_code not in PASSING or headers.get("x-should-retry") == "false":
            return None
        with contextlib.suppress(ValueError):
            seconds = float(headers.get("retry-after", seconds))
        return seconds if 0 <= seconds <= LONGEST_PAUSE_S else None
    # A server that took no connection in all the time there was is not waited for as long again.
    passes = isinstance(error, BrokenOff | openai.APIConnectionError)
    return seconds if passes and not isinstance(error, openai.APITimeoutError) else None


def nonsense(name: str, url: str, kind: str = "", begun: bool = False) -> WorkFailed:
    """What is told of an answer that is none; `kind` is its content type, `begun` whether it was one at first."""
    if begun:
        return WorkFailed(
            f"{name} sent what is no part of an answer in the midst of one: look at its own log."
        )
    sent = f" ({kind.partition(';')[0]})" if kind else ""
    return WorkFailed(
        f"{name} sent what is no answer of the OpenAI API{sent}: check that its address ends in /v1 ({url})."
    )


def told(error: Exception, where: str, key: str | None, key_env: str | None = None) -> CounterpointError:
    """A client library's error in plain words; `where` names the server and its address, `key_env` the variable
    of its key. The key is not repeated, whatever the server says."""
    import openai

    if isinstance(error, openai.APIConnectionError):
        unsafe = _tls(error)
        if isinstance(unsafe, ssl.SSLCertVerificationError):
            return Down(
                f"{where} shows a certificate that this machine does not trust: {unsafe.verify_message}."
            )
        if unsafe is not None:
            return Down(
                f"{where} does not answer in https: is it http, not https, that its address begins with?"
            )
        return Down(f"{where} does not answer: start it, or mend its address.")
    said = words(error, key)
    if isinstance(error, openai.APIStatusError) and error.status_code in range(300, 400):
        place = _line(error.response.headers.get("location", "elsewhere"), key)
        return WorkFailed(
            f"{where} has moved to {place}: nothing was sent there. Mend its address if that is right."
        )
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        if key:
            what = f"refuses the key in {key_env or 'its environment variable'}: set it anew and start again"
        elif key_env:
            what = f"refuses us: {key_env} is not set where Counterpoint runs. Set it and start again"
        else:
            what = "refuses us: if it wants a key, name the environment variable that holds it"
        return WorkFailed(f"{where} {what}. It says: {said}")
    if isinstance(error, openai.RateLimitError):
        return Busy(f"{where} is asked too much, or its quota is used up: try later. It says: {said}")
    if isinstance(error, openai.InternalServerError):
        return Down(f"{where} failed: look at its own log. It says: {said}")
    if isinstance(error, openai.NotFoundError):
        return WorkFailed(f"{where} has no such model or address (it ends in /v1 mostly). It says: {said}")
    # These are of what was asked; all others of how this server is used from here. In a stream that has begun
    # the status is told as the error's code.
    status = error.status_code if isinstance(error, openai.APIStatusError) else getattr(error, "code", None)
    refused = str(status) in ("400", "413", "422")
    if not (refused or isinstance(error, openai.APIStatusError)):
        return WorkFailed(f"{where} failed while it answered: look at its own log. It says: {said}")
    too_long = "context_length_exceeded" in (getattr(error, "code", None), said) or "context length" in said
    kind = WorkFailed if not refused else PromptTooLong if too_long else CounterpointError
    return kind(f"{where} refuses: {said}")


def _tls(error: BaseException) -> ssl.SSLError | None:
    """The trouble with https that a connection failed for, if that is why."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    return cause


def no_list(where: str, url: str, said: str) -> WorkFailed:
    """What is told of a server that answers, but has no list of models at its address."""
    mend = (
        "Mend its address, or name its model"
        if url.endswith("/v1")
        else "An address mostly ends in /v1: add that, or name its model if the address is right"
    )
    return WorkFailed(f"{where} answers, but has no {url}/models. {mend}. It says: {said}")


def refused(error: Any) -> frozenset[str]:
    """The names of what was asked for that the server says it does not take."""
    body = _body(error)
    said = body if isinstance(body, dict) else {}
    if str(said.get("code")) in _UNSUPPORTED:
        return frozenset({str(said.get("param")).partition(".")[0]})
    return frozenset(_UNKNOWN_NAME.findall(str(said.get("message"))))


def words(error: Any, key: str | None) -> str:
    """The server's own message in one line of bounded length, without the key."""
    body = _body(error)
    said = (body.get("message") or body.get("detail")) if isinstance(body, dict) else body
    return _line(str(said or getattr(error, "message", error)), key)


def _body(error: Any) -> Any:
    """What the server said of its error. Google's says it in a list, which the client library leaves as it is."""
    body = getattr(error, "body", None)
    if isinstance(body, list) and len(body) == 1:
        (body,) = body
        return body.get("error", body) if isinstance(body, dict) else body
    return body


def readable(text: str) -> str:
    """The text with a mark in the place of every half of a character: nothing that is shown or kept could hold it.

    Raises AttributeError for what is no text.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _line(text: str, key: str | None) -> str:
    text = readable(text)
    text = " ".join((text.replace(key, "(the key)") if key else text).split())
    return text if len(text) <= 300 else f"{text[:300]}…"
