"""The one error that a person sees."""


class CounterpointError(Exception):
    """Something a person can mend: the message says what is wrong and names the mend, in one line."""
