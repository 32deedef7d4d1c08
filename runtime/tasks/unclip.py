"""Pictures from words, and variations of a picture, by an unCLIP model.

Fields: `prompt` (of words), `seeds`, one per picture, `steps` (of the prior, where it ran, of the
decoder and of the enlargement), `guidance` and `size_wh`. Images: `image`, or `image-1`, `image-2`
where several were asked for, and `step-05` and so on for the small picture on its way.

Rules:
    U1  Picture n of an input draws from seed + n, so that each can be made again alone.
    U2  --steps are those of prior and decoder; the enlargement was trained for its own number and
        keeps it. --guidance is that of the decoder; the prior keeps its own.
    U3  What these models have no use for is refused: a negative prompt, a strength, a mask, a
        scheduler, words beside a picture.
    U4  A picture on its way is what the decoder takes for the clean one, at its own small size.
    U5  Variations have no words, and the picture's own embedding stands where the prior's would.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.runtime.diffusion.base import noise_stream
from jetlift.runtime.errors import UsageError
from jetlift.runtime.imaging import ImagingOptions
from jetlift.runtime.manifest import TextPreprocess
from jetlift.runtime.sources import Frame
from jetlift.runtime.tasks.base import Outcome, Task, place_of
from jetlift.runtime.tasks.encoder import Encoder
from jetlift.runtime.tasks.unclip_stages import Stages, WordReader, read_stats
from jetlift.runtime.texts import TextItem

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from jetlift.runtime.bundle import Bundle
    from jetlift.runtime.manifest import Manifest
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.task_forms import UnClip
    from jetlift.runtime.tasks.base import Item
    from jetlift.runtime.tasks.unclip_stages import Words

    Floats = npt.NDArray[np.float32]
    Pictures = dict[str, npt.NDArray[np.uint8]]


class UnClipTask(Task):
    """What both tasks share: from words and an embedding to pictures.

    Args:
        bundle: A verified bundle of an unCLIP model.
        session: An open session of the part that reads the inputs.
        part: Name of that part.
        others: Open sessions of the other parts, by part.
        options: What the user says of the pictures.

    Raises:
        UsageError: The model is none of these, a session is missing, or it cannot do what is asked.
        BundleError: An asset cannot be read.
        MissingPackageError: `tokenizers` is not installed.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        part: str,
        others: Mapping[str, Session],
        options: ImagingOptions,
    ) -> None:
        self._facts = facts_of(bundle.manifest)
        self._refuse(options)
        self._options, self._bundle = options, bundle
        self._sessions = {**others, part: session}
        self._check_sessions()
        stats = read_stats(bundle.path(self._facts.clip_stats))
        self._stages = Stages(self._facts, self._sessions, stats)
        text = bundle.part(self._facts.text)[1]
        if not isinstance(text.preprocess, TextPreprocess):
            raise UsageError(f"Part {self._facts.text} reads no text", expected="A part for words")
        tokenizer = bundle.path(text.preprocess.tokenizer)
        self._reader = WordReader(text.preprocess, self._sessions[self._facts.text], tokenizer)

    def process(self, item: Item) -> Outcome:
        """Make the pictures of one input; see Task.process.

        Raises:
            InputError: A prompt is blank or too long, a picture cannot be used.
        """
        options = self._options
        first = secrets.randbits(32) if options.seed is None else options.seed
        seeds = [first + number for number in range(options.count)]  # U1
        images: Pictures = {}
        for number, seed in enumerate(seeds, 1):
            suffix = f"-{number}" if options.count > 1 else ""
            images |= {f"{name}{suffix}": made for name, made in self._made(item, seed).items()}
        height, width = next(iter(images.values())).shape[:2]
        fields = self._said(item) | {
            "seeds": seeds,
            "steps": self._steps(),
            "guidance": self._guidance,
            "size_wh": [width, height],
        }
        return Outcome(place_of(item) | fields, {}, images=images)

    def _made(self, item: Item, seed: int) -> Pictures:
        """One picture and those on the way to it."""
        rng = noise_stream(seed)
        words, embedding = self._conditions(item, rng)
        steps = self._options.steps or self._facts.decoder_steps
        shown = shown_steps(self._options.step_images, steps)
        on_the_way: dict[int, Floats] = {}

        def watch(number: int, clean: Floats) -> None:
            if number in shown:
                on_the_way[number] = clean

        small = self._stages.small(words, embedding, steps, self._guidance, rng, watch)
        large = self._stages.large(small, self._facts.super_steps, rng)
        pictures = {"image": as_picture(large)}
        for number, clean in on_the_way.items():
            pictures[f"step-{number:02d}"] = as_picture(clean)
        return pictures

    @abstractmethod
    def _conditions(self, item: Item, rng: np.random.Generator) -> tuple[Words, Floats]:
        """Words, and a picture's embedding float32 [1, D], of one input."""

    @abstractmethod
    def _said(self, item: Item) -> dict[str, Any]:
        """What the fields say of the input."""

    def _steps(self) -> dict[str, int]:
        """Steps by stage (rule U2)."""
        decoder = self._options.steps or self._facts.decoder_steps
        return {"decoder": decoder, "enlargement": self._facts.super_steps}

    @property
    def _guidance(self) -> float:
        given = self._options.guidance
        return self._facts.decoder_guidance if given is None else given

    def _refuse(self, options: ImagingOptions) -> None:
        """Say no to what has no meaning here (rules U2 and U3)."""
        unused = {
            "--negative": options.negative,
            "--strength": options.strength,
            "--mask": options.mask,
            "--scheduler": options.scheduler,
            "--prompt": options.prompts or None,
        }
        given = [name for name, value in unused.items() if value is not None]
        if given:
            raise UsageError(
                f"Task {self.name} of an unCLIP model got {', '.join(given)}",
                expected="--steps, --guidance, --seed, --count and --step-images alone",
            )
        if options.steps == 1:
            raise UsageError("Got --steps 1", expected="2 or more, the first and the last")

    def _check_sessions(self) -> None:
        facts = self._facts
        wanted = (facts.text, *self._first_parts(), facts.text_proj, facts.decoder)
        wanted += (facts.super_first, facts.super_last)
        missing = [name for name in wanted if name not in self._sessions]
        if missing:
            raise UsageError(
                f"Task {self.name} got no session of {', '.join(missing)}",
                expected=f"One of each of these parts: {', '.join(wanted)}",
            )

    @abstractmethod
    def _first_parts(self) -> tuple[str, ...]:
        """Parts that this task alone needs."""


class WordsTask(UnClipTask):
    """Words in, pictures out."""

    name = "text-to-image"

    def _first_parts(self) -> tuple[str, ...]:
        return (self._facts.prior,)

    def _conditions(self, item: Item, rng: np.random.Generator) -> tuple[Words, Floats]:
        if not isinstance(item, TextItem):
            raise UsageError(f"Task {self.name} got no text", expected="A prompt")
        words = self._reader.read(item.text)
        steps = self._options.steps or self._facts.prior_steps
        return words, self._stages.embedding(words, steps, self._facts.prior_guidance, rng)

    def _said(self, item: Item) -> dict[str, Any]:
        return {"prompt": item.text} if isinstance(item, TextItem) else {}

    def _steps(self) -> dict[str, int]:
        return {"prior": self._options.steps or self._facts.prior_steps} | super()._steps()


class VariationsTask(UnClipTask):
    """A picture in, pictures like it out (rule U5)."""

    name = "variations"

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        part: str,
        others: Mapping[str, Session],
        options: ImagingOptions,
    ) -> None:
        super().__init__(bundle, session, part, others, options)
        image = self._facts.image
        self._encoder = Encoder(bundle, self._sessions[image], image)
        self._words = self._reader.empty()

    def _first_parts(self) -> tuple[str, ...]:
        return (self._facts.image,)

    @property
    def notes(self) -> tuple[str, ...]:
        """See Task.notes."""
        return self._encoder.notes

    def _conditions(self, item: Item, rng: np.random.Generator) -> tuple[Words, Floats]:
        del rng
        if not isinstance(item, Frame):
            raise UsageError(f"Task {self.name} got no picture", expected="A picture")
        return self._words, self._encoder.encode(item).embedding[None]

    def _said(self, item: Item) -> dict[str, Any]:
        del item
        return {}


def facts_of(manifest: Manifest) -> UnClip:
    """What the manifest says of its unCLIP model.

    Raises:
        UsageError: It is none.
    """
    if manifest.unclip is None:
        raise UsageError(
            f"{manifest.model} makes no pictures from embeddings",
            expected="A bundle of an unCLIP model, such as karlo",
        )
    return manifest.unclip


def shown_steps(count: int, steps: int) -> frozenset[int]:
    """Which steps to show, numbered from 1: evenly spread, the last among them."""
    if count == 0:
        return frozenset()
    places = np.linspace(0, steps, min(count, steps) + 1)[1:]
    return frozenset(int(place) for place in places.round())


def as_picture(pixels: Floats) -> npt.NDArray[np.uint8]:
    """float32 [1, 3, H, W] in RGB, -1 to 1, as uint8 [H, W, 3] in BGR, as diffusers rounds it."""
    levels = np.clip(pixels[0] * np.float32(0.5) + np.float32(0.5), 0, 1)
    rgb = np.round(levels * np.float32(255)).astype(np.uint8)
    return np.ascontiguousarray(rgb.transpose(1, 2, 0)[:, :, ::-1])


def open_words(
    bundle: Bundle,
    session: Session,
    _precision: str,
    _part: str | None,
    *,
    others: Mapping[str, Session] | None = None,
    options: ImagingOptions | None = None,
) -> Task:
    """Open `text-to-image` of an unCLIP model; see UnClipTask."""
    part = facts_of(bundle.manifest).text
    return WordsTask(bundle, session, part, others or {}, options or ImagingOptions())


def open_from(
    bundle: Bundle,
    session: Session,
    _precision: str,
    _part: str | None,
    *,
    others: Mapping[str, Session] | None = None,
    options: ImagingOptions | None = None,
) -> Task:
    """Open `variations`; see UnClipTask."""
    part = facts_of(bundle.manifest).image
    return VariationsTask(bundle, session, part, others or {}, options or ImagingOptions())
