from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import decoder_bundle
from helpers.tiny_bundle import tiny_bundle
from helpers.words_bundle import words_bundle

import jetlift
from jetlift.__main__ import run
from jetlift.engines.build import build
from jetlift.runtime.audio import Sound
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import (
    ArtefactError,
    BundleError,
    InputError,
    PassportError,
    UnknownNameError,
    UsageError,
)
from jetlift.runtime.load import LoadedTask, load
from jetlift.runtime.movies import VideoSink
from jetlift.runtime.prompts import Prompts
from jetlift.runtime.sources import Frame

pytest.importorskip("openvino")
pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("load") / "bundle", random=False)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return words_bundle(tmp_path_factory.mktemp("words") / "bundle")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    draws = np.random.default_rng(0)
    for number in range(3):
        picture = draws.integers(0, 256, (40, 50, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


@pytest.fixture
def embed(bundle: Bundle):
    with load(bundle, task="embed") as task:
        yield task


def test_the_package_s_own_name_for_it() -> None:
    assert jetlift.load is load
    assert jetlift.LoadedTask is LoadedTask
    assert "load" in dir(jetlift)
    with pytest.raises(AttributeError, match="lode"):
        jetlift.lode  # type: ignore[attr-defined] # noqa: B018


def test_it_answers_as_the_command_line_does(
    bundle: Bundle, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(pictures / "0.png")
    assert run(["run", str(bundle.folder), picture, "--task", "embed"]) == 0
    line = json.loads(capsys.readouterr().out)
    with jetlift.load(str(bundle.folder), task="embed") as task:
        assert task(picture) == line


def test_what_may_be_given(embed: LoadedTask, pictures: Path) -> None:
    path = pictures / "0.png"
    array = cv2.imread(str(path))
    by_path, by_text = embed(path), embed(str(path))
    assert by_path == by_text
    by_array = embed(array)
    assert (by_array["source"], by_array["embedding"]) == ("array", by_path["embedding"])
    assert embed(array[:, ::-1])["embedding"] != by_path["embedding"]  # a view with its own strides
    assert embed(Frame("door", 7, 0.5, array))["index"] == 7
    several = embed([path, array])
    assert [item["embedding"] for item in several] == [by_path["embedding"]] * 2
    assert embed([]) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros((4, 5, 3), np.float32), "float32[4, 5, 3]"),
        (np.zeros((4, 5), np.uint8), "uint8[4, 5]"),
        (np.zeros((3, 4, 5), np.uint8), "uint8[3, 4, 5]"),
        (np.zeros((0, 5, 3), np.uint8), "uint8[0, 5, 3]"),
        (b"bytes", "Got a bytes"),
        (None, "Got a NoneType"),
        (Sound(np.zeros(16000, np.float32), 16000), "picture"),
    ],
)
def test_what_may_not_be_given(embed: LoadedTask, given, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        embed(given)
    assert told in str(caught.value)


def test_names_that_stand_for_nothing_or_for_several(
    embed: LoadedTask, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="does not exist"):
        embed(tmp_path / "no.png")
    with pytest.raises(InputError, match=r"more than one input.*stream"):
        embed(pictures)
    with VideoSink(tmp_path / "v.mp4", fps=10.0) as video:
        for _ in range(3):
            video.write(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(InputError, match="more than one input"):
        embed(tmp_path / "v.mp4")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match="could be read"):
        embed(tmp_path / "broken.png")


def test_a_stream_tells_what_it_left_out(embed: LoadedTask, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "whole.png").write_bytes((pictures / "0.png").read_bytes())
    assert len(list(embed.stream(tmp_path))) == 1
    assert any("broken.png" in notice for notice in embed.notices)
    assert len(list(embed.stream([pictures, tmp_path / "whole.png"]))) == 4
    assert len(list(embed.stream(str(pictures), limit=2))) == 2


def test_a_stream_that_is_left_gives_everything_back(embed: LoadedTask, pictures: Path) -> None:
    for fields in embed.stream(pictures):
        assert fields["index"] == 0
        break
    every = embed.outcomes(pictures)
    item, outcome = next(every)
    assert (item.source, len(outcome.arrays)) == (str(pictures / "0.png"), 1)
    every.close()
    assert len(list(embed.stream(pictures))) == 3


def test_a_live_stream_gives_its_newest_frames(embed: LoadedTask) -> None:
    camera = "synthetic://160x120@100?frames=30"
    numbers = [fields["index"] for fields in embed.stream(camera)]
    assert numbers == sorted(set(numbers))
    assert numbers
    assert len(list(embed.stream("synthetic://160x120@100", limit=2))) == 2
    for fields in embed.stream("synthetic://160x120@100"):
        assert fields["embedding"]
        break


def test_everything_that_a_task_found(embed: LoadedTask, pictures: Path) -> None:
    assert set(embed.process(pictures / "0.png").arrays) == {"embedding"}
    assert embed.draw(pictures / "0.png") is None


def test_engines_are_timed(embed: LoadedTask, pictures: Path) -> None:
    embed(pictures / "0.png")
    (engine,) = embed.engines
    assert (engine.part, engine.variant, engine.session.runs) == ("image", "fp32", 1)
    assert (embed.target, embed.precision) == ("cpu", "fp32")


def test_a_closed_task_says_so(bundle: Bundle, pictures: Path) -> None:
    task = load(bundle, task="embed")
    task.close()
    task.close()
    with pytest.raises(UsageError, match="closed"):
        task(pictures / "0.png")


def test_words_are_computed_or_read(words: Bundle, pictures: Path, tmp_path: Path) -> None:
    picture = pictures / "0.png"
    with load(words, prompts=["dog", "cat"], count=1) as task:
        first = task(picture)
        assert len(first["labels"]) == 1
        made = task.task
    assert made.name == "classify"
    out = tmp_path / "two.prompts"
    line = ["prompts", str(words.folder), "--prompt", "dog", "--prompt", "cat", "-o", str(out)]
    assert run(line) == 0
    for given in (out, Prompts.load(out)):
        with load(words, prompts=given, count=1) as task:
            assert task(picture) == first
    with load(words, prompts=("dog", "cat"), templates=["{}!"]) as task:
        assert task(picture)["scores"] != first["scores"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"prompts": "dog"}, "A list of words"),
        ({"prompts": 3}, "kind int"),
        ({}, "no words to compare with"),
        ({"prompts": []}, "Got no prompt"),
        ({"prompts": ["dog", "dog"]}, "dog"),
        ({"prompts": Path("x.prompts"), "templates": ["{}"]}, "templates without words"),
        ({"prompts": ["dog"], "task": "embed", "part": "image"}, "Task embed got prompts"),
        ({"prompts": ["dog", "cat"], "language": "ja"}, "language"),
    ],
)
def test_words_that_make_no_sense_are_refused(words: Bundle, options, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(words, **options)
    assert told in str(caught.value)


def test_a_part_that_reads_texts(tmp_path: Path) -> None:
    bundle = decoder_bundle.decoder_bundle(tmp_path / "bundle", "abcdef")
    (tmp_path / "texts.txt").write_text("ab\ncd\n", encoding="utf-8")
    with load(bundle) as task:
        assert task("ab")["source"] == "argument"
        assert len(list(task.stream(tmp_path / "texts.txt"))) == 2
        with pytest.raises(InputError, match="visible"):
            task("  ")
        with pytest.raises(InputError, match="more than one"):
            task(tmp_path / "texts.txt")
        with pytest.raises(UsageError):
            task(np.zeros((4, 4, 3), np.uint8))


def test_random_weights_are_marked_or_refused(tmp_path: Path, pictures: Path) -> None:
    drawn = tiny_bundle(tmp_path / "drawn", random=True)
    with pytest.raises(ArtefactError, match="random"):
        load(drawn, task="embed")
    with load(drawn, task="embed", allow_random=True) as task:
        assert task(pictures / "0.png")["weights"] == "random"
        assert [item["weights"] for item in task.stream(pictures)] == ["random"] * 3


def test_a_picture_of_random_weights_says_so(tmp_path: Path, pictures: Path) -> None:
    words = words_bundle(tmp_path / "words", random=True)
    with load(words, prompts=["a", "b"], allow_random=True) as task:
        item = task.item_of(pictures / "0.png")
        plain = task.task.draw(item, task.process(item))
        drawn = task.draw(pictures / "0.png")
    assert plain is not None
    assert drawn is not None
    assert drawn.shape[0] > plain.shape[0]  # the strip with the warning


@pytest.mark.parametrize("source", ["synthetic://160x120@100", "pictures"])
def test_a_limit_below_one_is_refused(embed: LoadedTask, source: str) -> None:
    with pytest.raises(UsageError, match="limit of 0"):
        next(embed.stream(source, limit=0))


def test_what_is_no_bundle_or_no_task(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a bundle"):
        load(tmp_path)
    with pytest.raises(UnknownNameError, match="no task 'paint'"):
        load(bundle, task="paint", part="image")
    with pytest.raises(UnknownNameError, match="int4"):
        load(bundle, task="embed", precision="int4")
    with pytest.raises(UnknownNameError, match="Target"):
        load(bundle, task="embed", target="moon")
    copy = tiny_bundle(tmp_path / "copy", random=False)
    copy.path(copy.manifest.files[0].path).write_bytes(b"altered")
    with pytest.raises(BundleError):
        load(copy.folder)


def test_engines_are_taken_where_they_are_built(tmp_path: Path, pictures: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", random=False)
    with load(bundle, task="embed") as task:
        assert any("is compiled now" in notice for notice in task.notices)
        assert task.engines[0].size_bytes.value is None
    build(bundle, "cpu", precisions=("fp32",), race_limit_s=0)
    with load(bundle, task="embed", precision="fp32") as task:
        assert task.notices == ()
        assert task.engines[0].size_bytes.value
        task(pictures / "0.png")


def test_a_gpu_s_engine_that_may_not_load_is_passed_over_and_told(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", random=False)
    engine = bundle.engine_path("rtx-sm86", "image", "fp32")
    engine.parent.mkdir(parents=True)
    engine.write_bytes(b"not an engine")
    with load(bundle, task="embed") as task:
        assert task.target == "cpu"
        told = " ".join(task.notices)
    assert "rtx-sm86 is passed over" in told
    assert "no passport" in told
    with pytest.raises(PassportError):  # named, it is never passed over
        load(bundle, task="embed", target="rtx-sm86")
