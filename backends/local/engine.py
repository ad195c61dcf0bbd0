"""The engine: takes in what has arrived, decodes one step for all, sends what is new.

It is the queue as well: a request that arrives joins between two steps, up to `ROWS` rows; beyond them it waits
and is told its place; where `QUEUE` wait already it is refused.
"""

from __future__ import annotations

import hashlib
import math
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.contract import (
    AdapterFault,
    AdapterSource,
    BaseFacts,
    Delta,
    Done,
    Failed,
    FinishReason,
    Identity,
    Message,
    PromptTooLong,
    Queued,
    Rendered,
    Request,
    TokenLogprob,
    Usage,
)
from backends.local.prompt import tokenize
from backends.local.protocol import Call, Reply, Stop, Submit
from errors import Busy, CounterpointError, WorkFailed

if TYPE_CHECKING:
    from backends.local.answer import AnswerText
    from backends.local.decode import Decoder, Row

ROWS = 24
"""Answers decoded at once."""
QUEUE = 64
"""Requests that may wait for a row."""
KV_BYTES = 3 * 1024**3
"""Keys and values of all rows, each as long as the longest may become: more waits in the queue. One row always
fits."""
PROBE = "The quick brown fox asks: what should I answer, and how?"
NO_EFFECT = 1e-3
"""An adapter whose largest change to any logit is below this did nothing."""


@dataclass(eq=False, slots=True)
class _Job:
    """A request from its arrival to its end."""

    request: Request
    source: AdapterSource | None
    prompt: str
    tokens: list[int]
    arrived: float
    row: Row | None = None
    text: AnswerText | None = None
    first_token: float | None = None
    last_token: float | None = None
    stopped: bool = False
    place: int = 0
    told: int = 0  # tokens whose log-probabilities were sent

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_token is None else self.first_token - self.arrived

    @property
    def tokens_per_s(self) -> float | None:
        count = len(self.row.answer) if self.row else 0
        if count < 2 or self.first_token is None or self.last_token is None:
            return None
        return (count - 1) / max(self.last_token - self.first_token, 1e-9)


class Engine:
    """The loop's state. `send` takes a list of messages for the other side."""

    def __init__(self, facts: BaseFacts, decoder: Decoder, send: Callable[[list[Any]], None]):
        self.facts = facts
        self.decoder = decoder
        self._base = decoder.base
        self._send = send
        self._waiting: deque[_Job] = deque()
        self._running: dict[int, _Job] = {}  # by id() of the row
        self._steps = self._row_steps = 0
        self._out: list[Any] = []

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    def take(self, message: Submit | Stop | Call) -> None:
        """Takes in one message from the other side."""
        if isinstance(message, Submit):
            for request, source in message.requests:
                self._accept(request, source, message.arrived)
        elif isinstance(message, Stop):
            wanted = set(message.request_ids)
            for job in [*self._waiting, *self._running.values()]:
                if job.request.id in wanted:
                    job.stopped = True
        else:
            try:
                value = getattr(self, f"call_{message.method}")(message.argument)
                self._out.append(Reply(message.number, value))
            except Exception as error:
                self._out.append(Reply(message.number, error=str(_told(error))))

    def step(self) -> None:
        """Ends what was stopped, lets waiting requests in, reads a part of the prompts, decodes one token."""
        self._renew()
        if self.decoder.reading:
            self._handle(self.decoder.read())
        answered = self.decoder.answer()
        self._steps += bool(answered)
        self._row_steps += len(answered)
        self._handle(answered)
        self.flush()

    def _renew(self) -> None:
        """Ends what was stopped, lets waiting requests in."""
        for job in [job for job in self._waiting if job.stopped]:
            self._waiting.remove(job)
            self._finish(job, "cancelled")
        for job in [job for job in self._running.values() if job.stopped]:
            self._finish(job, "cancelled")
        self._admit()

    def flush(self) -> None:
        """Sends what has gathered."""
        if self._out:
            out, self._out = self._out, []
            self._send(out)

    def call_render(self, messages: tuple[Message, ...]) -> Rendered:
        prompt, tokens = self._render(messages)
        written = "\n".join(message["content"] for message in messages)
        typed = tuple(name for name in self._base.tokenizer.all_special_tokens if name in written)
        return Rendered(prompt, len(tokens), self._base.context, typed)

    def call_probe(self, source: AdapterSource) -> str | None:
        """None, or why this adapter is of no use to anybody. Leaves it in memory when it works."""
        try:
            self._load(source)
        except AdapterFault as fault:
            return str(fault)
        return None

    def call_forget(self, adapter: str) -> None:
        """Frees an adapter and all that was computed with it; not one that is answering."""
        if any(job.row is not None and job.row.adapter == adapter for job in self._running.values()):
            return
        self._base.rows.unload(adapter)
        self.decoder.store.forget(lambda key: isinstance(key, tuple) and key[0] == adapter)

    def call_statistics(self, _: None) -> dict[str, int]:
        """Figures for the page, Prometheus and the benchmark: bytes and counts. `steps` and `row_steps` are since the
        start: steps that decoded a token, and the rows decoded in them; their ratio is how full the batch is."""
        rows = self._base.rows
        return {
            "rows": len(self._running),
            "waiting": len(self._waiting),
            "steps": self._steps,
            "row_steps": self._row_steps,
            "prefix_store_bytes": self.decoder.store.bytes,
            "prefix_store_limit": self.decoder.store.limit,
            "prefix_store_entries": len(self.decoder.store),
            "kv_bytes": self.decoder.kv.bytes,
            "adapters_loaded": len(rows.loaded),
            "adapter_bytes": rows.bytes,
        }

    def _render(self, messages: tuple[Message, ...]) -> tuple[str, list[int]]:
        """The prompt as the base reads it. Its own chat template is the only one that is ever used."""
        context = self._base.context
        characters = sum(len(message["content"]) for message in messages)
        # No token of the usual vocabularies is longer; beyond this even counting would take the engine's time.
        if characters > 16 * context:
            raise PromptTooLong(
                f"The prompt has {characters:,} characters, far more than the {context:,} tokens that this "
                "base reads: shorten the question, the persona or the conversation."
            )
        try:
            "".join(message["content"] for message in messages).encode()
        except UnicodeEncodeError:
            raise CounterpointError("The text holds a broken character: type it again.") from None
        tokenizer = self._base.tokenizer
        try:
            prompt: str = tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:
            # The template is the base's own program; it refuses what its authors ruled out.
            raise CounterpointError(f"The base's chat template refuses these messages: {error}") from None
        return prompt, tokenize(tokenizer, list(messages), prompt)

    def _accept(self, request: Request, source: AdapterSource | None, arrived: float) -> None:
        if len(self._waiting) >= QUEUE:
            self._renew()  # of those that came since the last step some may have a row
        try:
            if len(self._waiting) >= QUEUE:
                raise Busy(f"{QUEUE} questions are waiting already: try again when some have been answered.")
            prompt, tokens = self._render(request.messages)
            if len(tokens) >= self._base.context:
                raise PromptTooLong(
                    f"The prompt has {len(tokens):,} tokens, and this base reads {self._base.context:,}: "
                    "shorten the question or the persona, or begin a new conversation."
                )
        except Exception as error:
            self._out.append(Failed.of(request.id, _told(error)))
            return
        self._waiting.append(_Job(request, source, prompt, tokens, arrived))

    def _need(self, job: _Job) -> int:
        return min(len(job.tokens) + job.request.sampling.max_tokens, self._base.context)

    def _admit(self) -> None:
        """Lets requests in while there are rows and places; tells the others where they stand."""
        joined: list[Row] = []
        from backends.local.kv_rows import places

        kv = self.decoder.kv
        longest = max((places(self._need(job)) for job in self._running.values()), default=0)
        while self._waiting and len(self._running) < ROWS:
            job = self._waiting[0]
            longest = max(longest, places(self._need(job)), kv.capacity)
            rows = max(len(self._running) + 1, kv.row_capacity)
            if self._running and rows * longest * kv.place_bytes > KV_BYTES:
                break
            self._waiting.popleft()
            try:
                joined.append(self._row(job))
            except Exception as error:
                self._out.append(Failed.of(job.request.id, _told(error)))
        self.decoder.add(joined)
        for place, job in enumerate(self._waiting, start=1):
            if place != job.place:
                job.place = place
                self._out.append(Queued(job.request.id, place))

    def _row(self, job: _Job) -> Row:
        from backends.local.answer import AnswerText
        from backends.local.decode import Row

        request = job.request
        if job.source is not None:
            self._load(job.source)
        job.text = AnswerText(self._base.tokenizer, request.sampling.stop)
        job.row = Row(
            job.tokens,
            request.sampling,
            adapter=None if job.source is None else job.source.name,
            adapter_version=None if job.source is None else job.source.version,
            scale=request.adapter_scale,
            top_logprobs=request.top_logprobs,
        )
        self._running[id(job.row)] = job
        return job.row

    def _load(self, source: AdapterSource) -> None:
        """Loads an adapter and proves that it changes the base's logits; what is not proven does not stay."""
        rows = self._base.rows
        known = rows.loaded.get(source.name)
        in_use = {job.row.adapter for job in self._running.values() if job.row and job.row.adapter}
        if rows.load(source, in_use) is known:
            return
        try:
            effect = self.decoder.effect(source.name, self._base.tokenizer(PROBE)["input_ids"])
            if not math.isfinite(effect):
                raise _no_numbers(source.name, 1.0)
            if effect < NO_EFFECT:
                raise AdapterFault(
                    f"Adapter {source.name} has no effect: it changes no logit by more than {effect:.1e}. "
                    "Its training was not saved, or it was trained for nothing; train it again."
                )
        except Exception:
            rows.unload(source.name)
            raise

    def _handle(self, rows: list[Row]) -> None:
        """Text, stops and ends for rows that got a token."""
        now = time.monotonic()
        for row in rows:
            job = self._running[id(row)]
            assert job.text is not None, "a running job has its text"
            if not row.is_sound:
                del self._running[id(row)]
                self.decoder.remove(row)
                error = _no_numbers(row.adapter, row.scale)
                self._out.append(Failed.of(job.request.id, error))
                continue
            job.first_token = job.first_token or now
            job.last_token = now
            token = row.answer[-1]
            ended = token in self._base.end_tokens
            text = job.text.finish() if ended else job.text.push(token)
            if text:
                self._tell(job, row, text)
            if ended or job.text.stopped:
                self._finish(job, "stop")
            elif len(row.answer) >= row.sampling.max_tokens or row.length + 1 >= self._base.context:
                self._finish(job, "length")

    def _tell(self, job: _Job, row: Row, text: str) -> None:
        self._out.append(
            Delta(
                job.request.id, text, len(row.answer), job.ttft_s, job.tokens_per_s, self._logprobs(job, row)
            )
        )

    def _logprobs(self, job: _Job, row: Row) -> tuple[TokenLogprob, ...]:
        """Of the tokens since the last text was sent, where they were asked for; an end token is none of them."""
        if row.chooser is None or row.top_logprobs is None:
            return ()
        decode = self._base.tokenizer.decode
        new = zip(row.answer[job.told :], row.chooser.likely[job.told :], strict=True)
        job.told = len(row.answer)
        return tuple(
            TokenLogprob(
                decode([token]), logprob, tuple((decode([other]), value) for other, value in likeliest)
            )
            for token, (logprob, likeliest) in new
            if token not in self._base.end_tokens
        )

    def _finish(self, job: _Job, reason: FinishReason) -> None:
        request, row = job.request, job.row
        if row is not None and job.text is not None:
            rest = "" if reason == "stop" else job.text.finish()
            if rest:
                self._tell(job, row, rest)
            del self._running[id(row)]
            self.decoder.remove(row)
        usage = Usage(
            prompt_tokens=len(job.tokens),
            completion_tokens=len(row.answer) if row else 0,
            cached_tokens=row.cached if row else 0,
            ttft_s=job.ttft_s,
            tokens_per_s=job.tokens_per_s,
        )
        self._out.append(Done(request.id, reason, usage, self._identity(job)))

    def _identity(self, job: _Job) -> Identity:
        return Identity(
            backend="local",
            base=self.facts.id,
            base_sha256=self.facts.sha256,
            quantization=self._base.quantization,
            adapter=job.request.adapter,
            adapter_sha256=job.source.sha256 if job.row and job.source else None,
            adapter_scale=job.request.adapter_scale if job.request.adapter else None,
            prompt=job.prompt,
            prompt_sha256=hashlib.sha256(job.prompt.encode()).hexdigest(),
            sampling=job.request.sampling,
            dtype=str(self._base.model.dtype).removeprefix("torch."),
        )


def _no_numbers(adapter: str | None, scale: float) -> CounterpointError:
    """What is told of a row whose logits are no numbers: only an adapter at its trained strength is itself at fault."""
    if adapter is None:
        return WorkFailed("The base made of this question what is no number: ask it with --dtype float32.")
    told = f"Adapter {adapter} makes of the base's logits what is no number"
    if scale == 1:
        return AdapterFault(f"{told}: its values are too large. Train it again with a lower learning rate.")
    return CounterpointError(f"{told} at strength {scale:g}: set its strength to 1.")


def _told(error: Exception) -> CounterpointError:
    """What a request that failed is told. One request never takes the others with it, whatever it met."""
    if isinstance(error, CounterpointError):
        return error
    traceback.print_exception(error)
    return WorkFailed(
        f"This could not be computed ({type(error).__name__}); the terminal says more. Try it otherwise."
    )
