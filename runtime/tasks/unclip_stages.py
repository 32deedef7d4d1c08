"""The stages of unCLIP: words, a picture's embedding, a small picture, a large one.

Ramesh et al., arXiv 2204.06125, as karlo does it; steps, guidance and the order of draws are those
of diffusers 0.42 (pipelines/deprecated/unclip), so that equal draws give equal pictures.

Rules:
    G1  Row 0 of a pair is what guidance goes away from: the empty prompt, no picture. Row 1 is what
        was asked for.
    G2  Guidance weighs noise and embeddings; a learned variance is taken from row 1 as it is.
    G3  A prompt that is blank or longer than the model reads is refused, never cut.
    G4  What an engine says is finite, or an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.diffusion.base import draw, guided
from jetlift.runtime.diffusion.unclip import UnClipScheduler, UnClipSettings, enlarged
from jetlift.runtime.errors import BundleError, EngineLibraryError, InputError, UsageError
from jetlift.runtime.text import TextPreparer, open_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from jetlift.runtime.manifest import TextPreprocess
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.task_forms import UnClip

    Floats = npt.NDArray[np.float32]
    Ids = npt.NDArray[np.int64]
    Watch = Callable[[int, Floats], None]

_CLIP = 1.0  # pixels are -1 to 1


@dataclass(frozen=True, eq=False)
class Words:
    """What the model knows of a prompt, beside the empty one (rule G1).

    Attributes:
        embedding: float32 [2, D].
        hidden: float32 [2, L, W].
        mask: int64 [2, L], 1 where there is a token and no padding.
    """

    embedding: Floats
    hidden: Floats
    mask: Ids


class WordReader:
    """From a prompt to Words.

    Args:
        spec: Preprocessing of the part that encodes words.
        session: An open session of it.
        tokenizer_path: Its tokenizer.json.

    Raises:
        UsageError: It does not pad to one length.
        BundleError: The file is no tokenizer.
        MissingPackageError: `tokenizers` is not installed.
    """

    def __init__(self, spec: TextPreprocess, session: Session, tokenizer_path: Path) -> None:
        if spec.pad_to is None:
            raise UsageError("This part's texts are not padded", expected="One length for all")
        self._spec, self._session, self._length = spec, session, spec.pad_to
        self._preparer = TextPreparer(self._spec, tokenizer_path)
        tokenizer = open_tokenizer(tokenizer_path)
        tokenizer.no_padding()
        empty = np.full((1, self._length), self._spec.pad_id or 0, np.int64)
        ids = tokenizer.encode("").ids
        empty[0, : len(ids)] = ids
        self._empty = self._encoded(empty, len(ids))

    def empty(self) -> Words:
        """The empty prompt on both sides."""
        return _pair(self._empty, self._empty)

    def read(self, prompt: str) -> Words:
        """One prompt.

        Raises:
            InputError: It is blank or too long (rule G3).
            EngineLibraryError: The engine failed or returned NaN or infinity.
        """
        prepared = self._preparer.prepare([prompt])
        if prepared.truncated[0]:
            raise InputError(
                f"The prompt {prompt[:60]!r}... is longer than the model reads",
                expected=f"At most {self._spec.max_tokens} tokens, those that begin and end it "
                "included",
                do="Shorten it",
            )
        return _pair(self._empty, self._encoded(prepared.feeds[self._spec.ids], prepared.tokens[0]))

    def _encoded(self, ids: Ids, count: int) -> Words:
        mask = (np.arange(self._length)[None] < count).astype(np.int64)
        outputs = self._session.run({self._spec.ids: ids})
        embedding = checked(outputs["embedding"], "the words' embedding")
        return Words(embedding, checked(outputs["hidden"], "the words' hidden states"), mask)


def _pair(without: Words, within: Words) -> Words:
    return Words(
        np.concatenate([without.embedding, within.embedding]),
        np.concatenate([without.hidden, within.hidden]),
        np.concatenate([without.mask, within.mask]),
    )


class Stages:
    """The loops of a bundle's unCLIP model.

    Args:
        facts: What the manifest says of it.
        sessions: Open sessions by part; each stage needs its own parts alone.
        stats: Mean and standard deviation of embeddings, float32 [2, D].
    """

    def __init__(self, facts: UnClip, sessions: Mapping[str, Session], stats: Floats) -> None:
        self._facts, self._sessions, self._stats = facts, sessions, stats

    def embedding(
        self, words: Words, steps: int, guidance: float, rng: np.random.Generator
    ) -> Floats:
        """The prior: a picture's embedding for the words, float32 [1, D].

        Raises:
            UsageError: There are too few or too many steps.
            EngineLibraryError: The engine failed or returned NaN or infinity.
        """
        facts, session = self._facts, self._sessions[self._facts.prior]
        settings = UnClipSettings("sample", facts.prior_clip, train_steps=facts.train_steps)
        scheduler = UnClipScheduler(settings, steps)
        latents = draw(rng, (1, self._stats.shape[1]))
        for t in scheduler.timesteps:
            outputs = session.run(
                {
                    "latents": np.repeat(latents, 2, axis=0),
                    "timestep": _timestep(t),
                    "text_embedding": words.embedding,
                    "text_hidden": words.hidden,
                    "attention_mask": words.mask,
                }
            )
            pair = checked(outputs["predicted"], "the prior's embedding")
            latents = scheduler.step(guided(pair[:1], pair[1:], guidance), float(t), latents, rng)
        mean, deviation = self._stats[:1], self._stats[1:]
        return latents * deviation + mean

    def small(
        self,
        words: Words,
        embedding: Floats,
        steps: int,
        guidance: float,
        rng: np.random.Generator,
        watch: Watch | None = None,
    ) -> Floats:
        """The decoder: a small picture, float32 [1, 3, side, side] in RGB, -1 to 1.

        Args:
            words: The prompt.
            embedding: A picture's, float32 [1, D].
            steps: Number of steps.
            guidance: Weight of words and embedding.
            rng: Draws.
            watch: Called after each step with its number from 1 and the clean picture that the
                model sees in the noise.

        Raises:
            UsageError: There are too few or too many steps.
            EngineLibraryError: The engine failed or returned NaN or infinity.
        """
        facts, session = self._facts, self._sessions[self._facts.decoder]
        conditions = self.conditions(words, embedding)
        settings = UnClipSettings("epsilon", _CLIP, learned=True, train_steps=facts.train_steps)
        scheduler = UnClipScheduler(settings, steps)
        latents = draw(rng, (1, 3, *_side(session, "sample")))
        for number, t in enumerate(scheduler.timesteps, 1):
            sample = np.repeat(latents, 2, axis=0)
            outputs = session.run({"sample": sample, "timestep": _timestep(t), **conditions})
            pair = checked(outputs["noise"], "the decoder's noise")
            noise = guided(pair[:1, :3], pair[1:, :3], guidance)
            both = np.concatenate([noise, pair[1:, 3:]], axis=1)  # G2
            latents = scheduler.step(both, float(t), latents, rng)
            if watch is not None and scheduler.clean is not None:
                watch(number, scheduler.clean)
        return np.clip(latents, -_CLIP, _CLIP)

    def large(self, small: Floats, steps: int, rng: np.random.Generator) -> Floats:
        """The enlargement, float32 [1, 3, side, side] in RGB, about -1 to 1.

        Raises:
            UsageError: There are too few or too many steps.
            EngineLibraryError: The engine failed or returned NaN or infinity.
        """
        facts = self._facts
        first, last = (self._sessions[name] for name in (facts.super_first, facts.super_last))
        settings = UnClipSettings("epsilon", _CLIP, train_steps=facts.train_steps)
        scheduler = UnClipScheduler(settings, steps)
        height, width = _side(first, "sample")
        latents = draw(rng, (1, 3, height, width))
        given = enlarged(small, width)
        for number, t in enumerate(scheduler.timesteps, 1):
            session = last if number == steps else first
            sample = np.concatenate([latents, given], axis=1)
            outputs = session.run({"sample": sample, "timestep": _timestep(t)})
            noise = checked(outputs["noise"], "the enlargement's noise")
            latents = scheduler.step(noise, float(t), latents, rng)
        return latents

    def conditions(self, words: Words, embedding: Floats) -> dict[str, npt.NDArray[Any]]:
        """What the decoder is told at every step beside its sample: feeds of its other inputs.

        Raises:
            EngineLibraryError: The engine failed or returned NaN or infinity.
        """
        outputs = self._sessions[self._facts.text_proj].run(
            {
                "image_embedding": embedding,
                "text_embedding": words.embedding,
                "text_hidden": words.hidden,
            }
        )
        context = checked(outputs["context"], "the decoder's context")
        more = context.shape[1] - words.mask.shape[1]
        ones = np.ones((2, more), np.int64)  # tokens of the picture, before those of the words
        return {
            "context": context,
            "time_term": checked(outputs["time_term"], "the decoder's time term"),
            "attention_mask": np.concatenate([ones, words.mask], axis=1),
        }


def read_stats(path: Path) -> Floats:
    """Mean and standard deviation of embeddings from a bundle's file, float32 [2, D].

    Raises:
        BundleError: The file is of another form.
    """
    try:
        stats = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path.name} cannot be read: {error}", expected="A .npy file") from error
    if stats.dtype != np.float32 or stats.ndim != 2 or stats.shape[0] != 2:
        raise BundleError(
            f"{path.name} holds {stats.dtype}{list(stats.shape)}", expected="float32 [2, D]"
        )
    return np.asarray(stats, np.float32)


def checked(values: npt.NDArray[np.generic], what: str) -> Floats:
    """Outputs of an engine as float32 (rule G4).

    Raises:
        EngineLibraryError: There is NaN or infinity among them.
    """
    floats = np.asarray(values, np.float32)
    if not np.isfinite(floats).all():
        raise EngineLibraryError(
            f"NaN or infinity in {what}",
            expected="Finite numbers",
            do="Try --precision fp32: where that is finite, this variant overflows",
        )
    return floats


def _timestep(t: np.floating) -> Ids:
    return np.array([round(float(t))], np.int64)


def _side(session: Session, name: str) -> tuple[int, int]:
    """Height and width of an input's pictures, which the graph fixes."""
    shape = next(spec.shape for spec in session.inputs if spec.name == name)
    return int(shape[-2]), int(shape[-1])
