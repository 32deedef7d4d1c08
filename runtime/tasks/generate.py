"""Text that goes on from a prompt.

Fields: `prompt`, `text` (what the model added), `prompt_tokens`, `tokens` (of the text, the ending
token among them), `ended` (`end`: the model ended it; `stop`: a stop string; `max_tokens`;
`context`: the cache is full), `seed` (null where nothing was drawn) and `chat` (whether the prompt
was written as a turn).

Rules:
    N1  A prompt that leaves no room for one token is refused, never cut.
    N2  A raw prompt is read as the tokenizer reads it, a turn as the model's template has it
        (--chat); the template's own words for begin and end are not doubled.
    N3  The seed begins anew with each prompt, so that its text does not depend on other prompts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jetlift.runtime.errors import InputError, UsageError
from jetlift.runtime.sampling import Sampler, SamplingOptions
from jetlift.runtime.tasks.base import Outcome, Task, place_of
from jetlift.runtime.tasks.decoder import FACTS, Decoder, DecoderFacts
from jetlift.runtime.tasks.text_stream import TextStream
from jetlift.runtime.text import open_tokenizer
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.tasks.base import Item

MAX_TOKENS = 128


@dataclass(frozen=True)
class GenerateOptions:
    """How text is generated.

    Attributes:
        sampling: How tokens are chosen.
        max_tokens: Most tokens of a text.
        stops: Strings that end it.
        chat: Write the prompt as a turn of the model's template.
        system: Instruction of the turn in place of the template's own.

    Raises:
        UsageError: There is nothing to generate, or an instruction without a turn.
    """

    sampling: SamplingOptions = SamplingOptions()
    max_tokens: int = MAX_TOKENS
    stops: tuple[str, ...] = ()
    chat: bool = False
    system: str | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(f"Got at most {self.max_tokens} tokens", expected="1 or more")
        if self.system is not None and not self.chat:
            raise UsageError("Got an instruction without a turn", expected="--system with --chat")


class GenerateTask(Task):
    """One text per prompt.

    Args:
        bundle: A verified bundle of a decoder.
        session: An open session of its decoder.
        options: How to generate.
        on_text: Takes each piece of text as it comes.

    Raises:
        UsageError: The session is no decoder's, or the model has no turns.
        BundleError: An asset cannot be read.
        MissingPackageError: `tokenizers` is not installed.
    """

    name = "generate"

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        options: GenerateOptions | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        self._options = options or GenerateOptions()
        self._facts = DecoderFacts.read(bundle.path(FACTS))
        if self._options.chat and self._facts.chat is None:
            raise UsageError(
                f"{bundle.manifest.model} has no turns", expected="A prompt without --chat"
            )
        TextStream(None, self._options.stops)  # before any work is done
        self._tokenizer = open_tokenizer(bundle.path(self._facts.tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._decoder = Decoder(session, self._facts.piece)
        self._on_text = on_text or _tell_nobody
        self._prefilled = self._prefill_s = self._generated = self._decode_s = 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """See Task.notes: how fast it went."""
        if not self._prefill_s or not self._decode_s:
            return ()
        prompts, text = self._prefilled / self._prefill_s, self._generated / self._decode_s
        return (f"Prompts: {prompts:.1f} tokens/s. Text: {text:.1f} tokens/s.",)

    def process(self, item: Item) -> Outcome:
        """Go on from one prompt; see Task.process.

        Raises:
            InputError: The prompt is blank or leaves no room (rule N1).
        """
        if not isinstance(item, TextItem):
            raise UsageError("Task generate got no text", expected="A prompt")
        ids = self._ids_of(item)
        sampler = Sampler(self._options.sampling)  # N3
        stream = TextStream(self._tokenizer, self._options.stops)
        told, count, ended = [], 0, "end"
        for token, reason in self._tokens(ids, sampler):
            count += 1
            ended = reason
            if reason == "end":
                break
            told.append(self._give(stream.push(token)))
            if stream.stopped:
                break
        told.append(self._give(stream.finish()))
        fields = {
            "prompt": item.text,
            "text": "".join(told),
            "prompt_tokens": len(ids),
            "tokens": count,
            "ended": "stop" if stream.stopped else ended,
            "seed": sampler.seed,
            "chat": self._options.chat,
        }
        return Outcome(place_of(item) | fields, {})

    def _give(self, text: str) -> str:
        if text:
            self._on_text(text)
        return text

    def _ids_of(self, item: TextItem) -> list[int]:
        """The prompt's tokens (rules N1 and N2)."""
        if not item.text.strip():
            raise InputError(
                f"The prompt {item.text!r} is blank", expected="At least one visible character"
            )
        options, chat = self._options, self._facts.chat
        turn = options.chat and chat is not None
        text = chat.written(item.text, options.system) if turn and chat else item.text
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=not turn).ids
        if not 0 < len(ids) < self._decoder.positions:
            raise InputError(
                f"The prompt of {item.source} ({item.index}) has {len(ids)} tokens",
                expected=f"At most {self._decoder.positions - 1}: this bundle's graph has room for "
                f"{self._decoder.positions} with the text that follows",
                do="Shorten it",
            )
        return ids

    def _tokens(self, ids: list[int], sampler: Sampler) -> Iterator[tuple[int, str]]:
        """Tokens as they come, each with how the text ends if it is the last."""
        decoder = self._decoder
        decoder.restart()
        started = time.perf_counter()
        logits = decoder.advance(ids)
        self._prefilled += len(ids)
        self._prefill_s += time.perf_counter() - started
        for left in range(self._options.max_tokens - 1, -1, -1):
            token = sampler.pick(logits)
            if token in self._facts.ends:
                yield token, "end"
                return
            yield token, "max_tokens" if decoder.room else "context"
            if not left or not decoder.room:
                return
            started = time.perf_counter()
            logits = decoder.advance([token])
            self._generated += 1
            self._decode_s += time.perf_counter() - started


def _tell_nobody(_text: str) -> None:
    return


def open_from(
    bundle: Bundle,
    session: Session,
    _precision: str,
    _part: str | None,
    *,
    options: GenerateOptions | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Task:
    """The task on a session; `on_text` is called with each piece as it comes; see open_task."""
    return GenerateTask(bundle, session, options, on_text)
