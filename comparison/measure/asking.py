"""Putting many questions to a backend, for their answers' texts alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backends.contract import Backend, Delta, Failed, Message, Request, Sampling
from errors import CounterpointError

Answer = Callable[[Sequence[Sequence[Message]]], list[str]]


def through_backend(
    backend: Backend,
    sampling: Sampling,
    adapter: str | None = None,
    at_once: int = 16,
    answered: Callable[[int], None] = lambda count: None,
) -> Answer:
    """An Answer that asks a backend, `at_once` questions in one call; `answered` is told how many after each."""

    def answer(questions: Sequence[Sequence[Message]]) -> list[str]:
        texts = ["" for _ in questions]
        for start in range(0, len(questions), at_once):
            batch = range(start, min(start + at_once, len(questions)))
            requests = [
                Request(
                    id=f"score-{index}", messages=tuple(questions[index]), sampling=sampling, adapter=adapter
                )
                for index in batch
            ]
            for event in backend.stream(requests):
                if isinstance(event, Failed):
                    raise CounterpointError(event.message)
                if isinstance(event, Delta):
                    texts[int(event.request_id.removeprefix("score-"))] += event.text
            answered(len(batch))
        return texts

    return answer
