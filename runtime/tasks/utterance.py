"""One window of speech through a decoder: language, silence, and words with their time stamps.

The decoder hears the start token once. Its logits behind it hold two answers at once: the
probability that nothing was said, and that of each language. Then come the language, what to do
with it, and the words, under the rules of `timestamps`.

Rules:
    U1  The likeliest words are taken. Where they repeat themselves (their text shrinks by more than
        COMPRESSION when compressed) or are unlikely (AVERAGE_LOGPROB), they are drawn again at the
        next temperature, each token once, from a generator with a fixed seed: the same sound gives
        the same words. The first try that is neither is kept. Where there is none, the likeliest of
        those that do not repeat themselves is, and without any of those the last.
    U2  Where nothing was said (SILENCE) and the words are unlikely, they are not tried again.
    U3  Tries share one cache: it is rewound to the end of the prompt, never copied.
The thresholds and temperatures are those of openai/whisper, whisper/transcribe.py, which draws five
times at each temperature and keeps the likeliest; here it is once.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jetlift.runtime.tasks.greedy import Steps
from jetlift.runtime.tasks.timestamps import StampRules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jetlift.runtime.session.base import Array, Session
    from jetlift.runtime.tasks.greedy import GenerationFacts

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COMPRESSION, AVERAGE_LOGPROB, SILENCE = 2.4, -1.0, 0.6
_SEED = 0


@dataclass(frozen=True)
class Attempt:
    """One try at a window's words.

    Attributes:
        tokens: Ids behind the prompt, time stamps among them, the end left out.
        text: The text of those that are text.
        ended: Whether the model ended it; otherwise it was cut at the limit of tokens.
        temperature: 0 for the likeliest.
        average_logprob: Mean natural logarithm of the tokens' probabilities, the end counted.
        compression: Bytes of the text over bytes of it compressed by zlib.
    """

    tokens: tuple[int, ...]
    text: str
    ended: bool
    temperature: float
    average_logprob: float
    compression: float

    @property
    def repeats(self) -> bool:
        """Whether it says the same over and over."""
        return self.compression > COMPRESSION

    @property
    def unlikely(self) -> bool:
        """Whether the model itself does not think much of it."""
        return self.average_logprob < AVERAGE_LOGPROB


@dataclass(frozen=True)
class Utterance:
    """What was found in one window.

    Attributes:
        best: The words.
        silence: Probability that nothing was said, as the model puts it.
        language: Code of the language; None where the model knows one alone.
        language_probability: How sure it is of it; None where it was not asked.
    """

    best: Attempt
    silence: float
    language: str | None
    language_probability: float | None

    @property
    def nothing_said(self) -> bool:
        """Whether the words are to be dropped: silence is likely and they are not."""
        return self.silence > SILENCE and self.best.unlikely


class UtteranceDecoder:
    """The loop around a decoder's session for one window at a time.

    Args:
        session: An open session of the decoder's part.
        facts: What the vocabulary asks for.
        to_text: Makes text of ids.
        translate: Ask for English.
        temperatures: The tries (rule U1); the first alone for none but the likeliest words.
    """

    def __init__(
        self,
        session: Session,
        facts: GenerationFacts,
        to_text: Callable[[Sequence[int]], str],
        *,
        translate: bool = False,
        temperatures: Sequence[float] = TEMPERATURES,
    ) -> None:
        self._session, self._facts, self._to_text = session, facts, to_text
        self._asks_for = facts.translate if translate else facts.transcribe
        self._temperatures = tuple(temperatures)
        self._rules = StampRules(facts.first_stamp, facts.end, facts.untimed)
        self._never = np.array(facts.suppress, np.int64)
        self._not_first = np.array(facts.suppress_first, np.int64)

    def decode(self, cross: Mapping[str, Array], language: str | None = None) -> Utterance:
        """Find what is said in a window.

        Args:
            cross: The cross keys and values, [1, ...] each.
            language: Code of its language; None to have it detected.

        Raises:
            UsageError: The session is no decoder's.
            EngineLibraryError: The engine failed or returned NaN or infinity.
        """
        facts, steps = self._facts, Steps(self._session, cross)
        logits = _advance(steps, facts.start)
        silence, sure = float(_softmax(logits)[facts.nothing_said]), None
        if facts.languages is not None:
            if language is None:
                language, sure = detect(logits, facts.languages)
            logits = _advance(steps, facts.languages[language])
            logits = _advance(steps, int(self._asks_for or 0))
        best = self._best(steps, logits, silence)
        return Utterance(best, silence, language, sure)

    def _best(self, steps: Steps, logits: Array, silence: float) -> Attempt:
        """Rules U1 to U3."""
        tries: list[Attempt] = []
        draw, prompt = np.random.default_rng(_SEED), steps.done
        for temperature in self._temperatures:
            steps.rewind(prompt)
            made = self._attempt(steps, logits.copy(), temperature, draw)
            is_good = not made.repeats and not made.unlikely
            if is_good or (made.unlikely and silence > SILENCE):
                return made
            tries.append(made)
        varied = [item for item in tries if not item.repeats]
        return max(varied, key=lambda item: item.average_logprob) if varied else tries[-1]

    def _attempt(
        self, steps: Steps, logits: Array, temperature: float, draw: np.random.Generator
    ) -> Attempt:
        facts = self._facts
        room = min(facts.max_tokens, steps.positions - steps.done)
        logits[self._not_first] = -np.inf
        tokens: list[int] = []
        total, ended = 0.0, False
        while len(tokens) < room and not ended:
            if tokens:
                logits = _advance(steps, tokens[-1])
            logits[self._never] = -np.inf
            self._rules.apply(logits, tokens)
            token = _taken(logits, temperature, draw)
            total += _logprob(logits, token)
            ended = token == facts.end
            tokens += [] if ended else [token]
        text = self._to_text([token for token in tokens if token < facts.end])
        return Attempt(
            tuple(tokens), text, ended, temperature, total / (len(tokens) + 1), compression(text)
        )


def detect(logits: Array, languages: Mapping[str, int]) -> tuple[str, float]:
    """The likeliest language and its probability among all, from the logits behind the start."""
    codes = list(languages)
    probabilities = _softmax(logits[[languages[code] for code in codes]])
    likeliest = int(probabilities.argmax())
    return codes[likeliest], float(probabilities[likeliest])


def compression(text: str) -> float:
    """Bytes of a text over its bytes compressed; 0 for no text."""
    plain = text.encode()
    return len(plain) / len(zlib.compress(plain))


def _advance(steps: Steps, token: int) -> Array:
    return np.asarray(steps.advance(np.array([token], np.int64))[0], np.float32)


def _taken(logits: Array, temperature: float, draw: np.random.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    heap = np.cumsum(_softmax(logits / temperature), dtype=np.float64)
    return int(np.searchsorted(heap, draw.random() * heap[-1], side="right"))


def _logprob(logits: Array, token: int) -> float:
    likeliest = logits.max()
    return float(logits[token] - likeliest - np.log(np.exp(logits - likeliest).sum()))


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())
