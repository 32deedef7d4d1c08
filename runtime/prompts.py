"""Words that pictures are compared with: their text features, computed once and kept in a file.

Rules:
    P1  A prompt is a word or a phrase. A template is a sentence with one `{}`, where the prompt
        goes; several templates are an ensemble.
    P2  Space around a prompt is taken off. Blank prompts are refused, and so are two that are the
        same to the model: they would share a score that belongs to one.
    P3  A sentence longer than the text part takes is refused, never cut: what is cut off would
        decide nothing, and nobody would notice.
    P4  The feature of a prompt is the mean of its sentences' embeddings, each at length 1, brought
        to length 1 again (Radford et al., arXiv 2103.00020, section 3.1.4).
    P5  The file is bound to the bundle by its stamp. Pictures may be encoded at another precision
        than the words were: both are near fp32's, and the stamp says which the words had.
    P6  Where a model reads words token by token (Grounding DINO), the features are those of the
        tokens of one text made of all prompts, and `spans` says which rows are whose
        (runtime/prompt_tokens.py). They have no length of 1, and one template is all it takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from jetlift.runtime.errors import ArtefactError, InputError, UsageError
from jetlift.runtime.jsonform import field
from jetlift.runtime.tasks import artefact
from jetlift.runtime.tasks.encoder import Encoder
from jetlift.runtime.tasks.search import normalised
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.task_forms import OpenVocabulary, ZeroShot

    Floats = npt.NDArray[np.float32]

SCHEMA_VERSION = 1
PLACE = "{}"
_WHAT = "a file of prompts"
_SOURCE = "prompt"
_LENGTH_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PromptsHead:
    """The head of a file of prompts."""

    kind: Literal["jetlift-prompts"] = field(doc="Says what the file is")
    schema_version: int = field(doc="Version of this schema")
    stamp: artefact.Stamp = field(doc="Whose numbers these are: the text part and its variant")
    arrays_sha256: dict[str, str] = field(doc="SHA-256 of dtype, shape and bytes of each array")
    prompts: tuple[str, ...] = field(doc="The prompts, one per row of `features`")
    templates: tuple[str, ...] = field(doc="The sentences that each was put into, {} for it")
    spans: tuple[tuple[int, ...], ...] | None = field(
        doc="First row of each prompt in `features`, and the row after its last, where a row is a "
        "token; null where a row is a prompt",
        default=None,
    )


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts with their features.

    Attributes:
        head: What they are of.
        features: float32 [prompts, D] of length 1 (rule P4), or [tokens, D] (rule P6).
    """

    head: PromptsHead
    features: Floats

    def save(self, path: Path | str) -> None:
        """Write them as one file, atomically.

        Raises:
            StorageError: The disk is full or not writable.
        """
        artefact.save(Path(path), self.head, {"features": self.features})

    @classmethod
    def load(cls, path: Path | str) -> Prompts:
        """Read them back.

        Raises:
            InputError: There is no such file.
            ArtefactError: It is something else, altered, or of another version.
        """
        head, arrays = artefact.load(Path(path), PromptsHead, version=SCHEMA_VERSION, what=_WHAT)
        features = arrays.get("features")
        if features is None or features.dtype != np.float32 or features.ndim != 2:
            raise ArtefactError(f"{path} is not {_WHAT}: it has no features")
        if not _features_fit(head, features):
            raise ArtefactError(f"{path} is not {_WHAT}: its features do not fit its prompts")
        return cls(head, features)

    def check_bundle(self, bundle: Bundle) -> None:
        """Refuse prompts of another bundle (rule P5).

        Raises:
            ArtefactError: They are.
        """
        stamp, facts = self.head.stamp, words_of(bundle)
        artefact.check_stamp(stamp, bundle, facts.text, stamp.precision, "The file of prompts")


def _features_fit(head: PromptsHead, features: Floats) -> bool:
    """Whether every prompt has its rows (rules P4 and P6)."""
    if head.spans is None:
        lengths = np.linalg.norm(features.astype(np.float64), axis=1)
        unit = np.allclose(lengths, 1.0, rtol=0, atol=_LENGTH_TOLERANCE)
        return len(features) == len(head.prompts) and unit
    edges = [edge for span in head.spans for edge in span]
    inside = all(len(span) == 2 and span[0] < span[1] for span in head.spans)
    within = edges == sorted(edges) and min(edges) >= 0 and max(edges) <= len(features)
    return len(head.spans) == len(head.prompts) and inside and within


def words_of(bundle: Bundle) -> ZeroShot | OpenVocabulary:
    """How the bundle compares pictures with words, or finds what they name.

    Raises:
        UsageError: It cannot.
    """
    facts = bundle.manifest.zero_shot or bundle.manifest.open_vocabulary
    if facts is None:
        raise UsageError(
            f"{bundle.manifest.model} cannot compare pictures with words",
            expected="A model with a text part, such as clip-vit-b32 or owlv2-base",
        )
    return facts


def clean_prompts(prompts: Sequence[str]) -> tuple[str, ...]:
    """Prompts without space around them (rules P1 and P2).

    Raises:
        UsageError: There are none, one is blank, or one comes twice.
    """
    if not prompts:
        raise UsageError("Got no prompt", expected="At least one: --prompt dog --prompt cat")
    cleaned = tuple(" ".join(prompt.split()) for prompt in prompts)
    for given, prompt in zip(prompts, cleaned, strict=True):
        if not prompt:
            raise UsageError(f"Got the blank prompt {given!r}", expected="A word or a phrase")
    twice = next((p for i, p in enumerate(cleaned) if p in cleaned[:i]), None)
    if twice is not None:
        raise UsageError(f"The prompt {twice!r} comes twice", expected="Each prompt once")
    return cleaned


def clean_templates(templates: Sequence[str], default: str) -> tuple[str, ...]:
    """The templates, or the model's own where there are none (rule P1).

    Raises:
        UsageError: One has no `{}`, or several, or comes twice.
    """
    for template in templates:
        if template.count(PLACE) != 1:
            raise UsageError(
                f"The template {template!r} has {template.count(PLACE)} places for the prompt",
                expected="One {}, as in 'a photo of a {}.', or '{}' for the prompt alone",
            )
    if len(set(templates)) != len(templates):
        raise UsageError("A template comes twice", expected="Each template once")
    return tuple(templates) or (default,)


def build_prompts(
    bundle: Bundle,
    session: Session,
    prompts: Sequence[str],
    *,
    templates: Sequence[str] = (),
    precision: str,
    target: str,
    progress: Callable[[int], None] | None = None,
) -> Prompts:
    """Compute the features of prompts (rules P1 to P4).

    Args:
        bundle: A bundle that compares pictures with words.
        session: An engine of its text part.
        prompts: Words or phrases.
        templates: Sentences with one `{}` each; the model's own if none are given.
        precision: The session's variant, for the stamp.
        target: The session's target, for the stamp.
        progress: Called with the number of prompts done.

    Raises:
        UsageError: The bundle has no text part, a prompt or template cannot be used, or one prompt
            alone would share a whole with itself.
        InputError: A sentence is longer than the model takes.
        MissingPackageError: `tokenizers` is not installed.
        EngineLibraryError: The engine failed or returned no finite numbers.
    """
    facts = words_of(bundle)
    words, sentences = clean_prompts(prompts), clean_templates(templates, facts.template)
    zero_shot = bundle.manifest.zero_shot
    if len(words) == 1 and zero_shot is not None and zero_shot.scores == "softmax":
        raise UsageError(
            f"Got the one prompt {words[0]!r}, and this model's prompts share a whole of 1",
            expected="At least two prompts: say what else it may be",
        )
    open_facts = bundle.manifest.open_vocabulary
    if open_facts is not None and open_facts.grounding is not None:
        return _of_tokens(bundle, session, words, sentences, (precision, target), progress)
    encoder = Encoder(bundle, session, facts.text)
    rows: list[Floats] = []
    for word in words:
        rows.append(_feature(encoder, word, sentences))
        if progress is not None:
            progress(len(rows))
    features = np.stack(rows)
    _refuse_alike(words, features)
    stamp = artefact.stamp(bundle, encoder.part_name, precision, target)
    head = PromptsHead("jetlift-prompts", SCHEMA_VERSION, stamp, {}, words, sentences)
    return Prompts(head, features)


def _of_tokens(
    bundle: Bundle,
    session: Session,
    words: tuple[str, ...],
    templates: tuple[str, ...],
    made_at: tuple[str, str],
    progress: Callable[[int], None] | None,
) -> Prompts:
    """Prompts whose rows are tokens (rule P6)."""
    from jetlift.runtime import prompt_tokens

    if len(templates) > 1:
        raise UsageError(
            f"Got {len(templates)} templates, and this model reads words token by token",
            expected="One template at most: tokens of several sentences have no mean",
        )
    sentences = [templates[0].replace(PLACE, word) for word in words]
    features, spans = prompt_tokens.encode(bundle, session, sentences)
    if progress is not None:
        progress(len(words))
    stamp = artefact.stamp(bundle, prompt_tokens.facts_of(bundle)[0].text, *made_at)
    head = PromptsHead("jetlift-prompts", SCHEMA_VERSION, stamp, {}, words, templates, spans)
    return Prompts(head, features)


def _feature(encoder: Encoder, word: str, templates: Sequence[str]) -> Floats:
    """The feature of one prompt, float32 [D] (rules P3 and P4)."""
    vectors = []
    for index, template in enumerate(templates):
        item = TextItem(_SOURCE, index, template.replace(PLACE, word))
        encoding = encoder.encode(item)
        if encoding.truncated:
            raise InputError(
                f"The prompt {_shortened(item.text)!r} is longer than the {encoding.tokens} tokens "
                "that the model takes",
                expected="A sentence that fits whole, since a part of it would mislead",
                do="Shorten the prompt or its template",
            )
        vectors.append(normalised(encoding.embedding, item).astype(np.float64))
    return normalised(mean_of(vectors).astype(np.float32), TextItem(_SOURCE, 0, word))


def mean_of(vectors: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The mean, each element summed exactly, so that the order of templates does not matter."""
    return np.array([math.fsum(column) for column in zip(*vectors, strict=True)]) / len(vectors)


def _refuse_alike(words: Sequence[str], features: Floats) -> None:
    """Two prompts with the same features have the same tokens (rule P2)."""
    seen: dict[bytes, str] = {}
    for word, row in zip(words, features, strict=True):
        first = seen.setdefault(row.tobytes(), word)
        if first != word:
            raise UsageError(
                f"The prompts {first!r} and {word!r} are the same to the model",
                expected="Prompts that differ in more than case or space",
            )


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
