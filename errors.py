"""The one error that a person sees, what kinds of it there are, and the exit statuses."""

DONE, FAILED, BAD_INPUT = 0, 1, 2


class CounterpointError(Exception):
    """Something a person can mend: the message says what is wrong and names the mend, in one line."""


class WorkFailed(CounterpointError):
    """What was asked for is right, but could not be done here and now: no network, no room, an engine that died."""


class Busy(WorkFailed):
    """More is asked than can be answered now: the same may be asked again later."""
