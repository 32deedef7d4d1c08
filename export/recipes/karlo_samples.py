"""Samples of karlo's inner parts, made of prompts: what each is fed on the way to a picture.

Rules:
    S1  Prompts are the lines of the .txt files among the samples, in order; the first PROMPTS are
        used, since each runs all parts before the one that is judged, at fp32 and at every step.
    S2  A part that runs per step is given some steps of each prompt, evenly spread, first and last
        among them.
    S3  Prompt n draws from seed n, so that figures can be made again.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from jetlift.export.samples import Item
from jetlift.runtime.diffusion.base import noise_stream
from jetlift.runtime.session import open_onnx
from jetlift.runtime.tasks.unclip_stages import Stages, WordReader, read_stats
from jetlift.runtime.texts import open_texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from jetlift.export.samples import ItemContext
    from jetlift.runtime.manifest import TensorSpec, TextPreprocess
    from jetlift.runtime.session.base import Session
    from jetlift.runtime.task_forms import UnClip

    Feeds = dict[str, npt.NDArray[Any]]

PROMPTS = 24
STEPS = 4


class Recorder:
    """A session that remembers what it was fed.

    Args:
        inner: The session that answers.

    Attributes:
        taken: Feeds since they were last forgotten.
    """

    def __init__(self, inner: Session) -> None:
        self._inner = inner
        self.taken: list[Feeds] = []

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """See Session.inputs."""
        return self._inner.inputs

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Feeds:
        """See Session.run."""
        self.taken.append(dict(feeds))
        return self._inner.run(feeds)


def stage_items(
    context: ItemContext, part: str, facts: UnClip, words: TextPreprocess
) -> list[Item]:
    """What a part is fed for each prompt (rules S1 to S3).

    Args:
        context: The samples, and the bundle so far.
        part: The part that is judged: the prior, or one after it.
        facts: How the parts make a picture.
        words: Preprocessing of the prompts.

    Raises:
        InputError: There are no prompts, or one of them is blank or too long.
    """
    with open_texts([str(context.folder)], limit=PROMPTS) as source:
        prompts = [item.text for item in source]
    with contextlib.ExitStack() as stack:
        sessions: dict[str, Any] = {
            name: stack.enter_context(open_onnx(context.files[name]))
            for name in _needed(facts, part)
        }
        recorder = sessions[part] = Recorder(sessions[part])
        reader = WordReader(words, sessions[facts.text], context.bundle_folder / words.tokenizer)
        stages = Stages(facts, sessions, read_stats(context.bundle_folder / facts.clip_stats))
        items = []
        for number, prompt in enumerate(prompts):
            recorder.taken = []
            _run(stages, facts, part, reader, prompt, number)
            chosen = {round(place) for place in np.linspace(0, len(recorder.taken) - 1, STEPS)}
            feeds = tuple(recorder.taken[place] for place in sorted(chosen))
            items.append(Item(hashlib.sha256(prompt.encode()).hexdigest(), feeds))
    return items


def _needed(facts: UnClip, part: str) -> list[str]:
    """Parts to run a prompt as far as one of them."""
    order = [facts.text, facts.prior, facts.text_proj, facts.decoder]
    if part in order:
        return order[: order.index(part) + 1]
    return [*order, facts.super_first, facts.super_last]


def _run(
    stages: Stages, facts: UnClip, part: str, reader: WordReader, prompt: str, seed: int
) -> None:
    """Run a prompt as far as the part."""
    rng, words = noise_stream(seed), reader.read(prompt)
    embedding = stages.embedding(words, facts.prior_steps, facts.prior_guidance, rng)
    if part == facts.prior:
        return
    if part == facts.text_proj:
        stages.conditions(words, embedding)
        return
    small = stages.small(words, embedding, facts.decoder_steps, facts.decoder_guidance, rng)
    if part != facts.decoder:
        stages.large(small, facts.super_steps, rng)
