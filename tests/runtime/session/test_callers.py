"""Sessions for threads that call at once, with the real OpenVINO."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_bundle import tiny_bundle

from jetlift.engines.build import build
from jetlift.runtime.bundle import Bundle
from jetlift.runtime.errors import UnknownNameError, UsageError
from jetlift.runtime.session import open_session
from jetlift.runtime.session.callers import open_callers


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", precisions=("fp32",))


@pytest.mark.parametrize("built", [False, True], ids=["compiled", "built"])
def test_callers_share_one_compiled_model_and_agree(tmp_path: Path, *, built: bool) -> None:
    own = tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    if built:
        build(own, "cpu", ["fp32"])
    feeds = [{"x": np.full((1, 16), n, np.float32)} for n in range(40)]
    with open_session(own, "mlp", "fp32") as one:
        wanted = [one.run(each)["y"] for each in feeds]
    with open_callers(own, "mlp", "fp32", 2, threads=2) as (sessions, how):
        assert how == "one compiled model with 2 streams, an infer request per caller"
        assert len(sessions) == 2
        with ThreadPoolExecutor(2) as pool:
            rounds = [
                pool.submit(lambda s=session: [s.run(each)["y"] for each in feeds])
                for session in sessions
            ]
            for answers in rounds:
                for got, right in zip(answers.result(), wanted, strict=True):
                    np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-6)
    for session in sessions:
        with pytest.raises(UsageError, match="closed"):
            session.run(feeds[0])


def test_one_that_is_closed_leaves_the_others_whole(bundle: Bundle) -> None:
    with open_callers(bundle, "mlp", "fp32", 2, threads=2) as (sessions, _):
        sessions[0].close()
        assert sessions[1].run({"x": np.zeros((1, 16), np.float32)})["y"].shape == (1, 4)


def test_one_caller_has_an_ordinary_session(bundle: Bundle) -> None:
    with open_callers(bundle, "mlp", "fp32", 1) as (sessions, how):
        assert (len(sessions), how) == (1, "one session")


def test_the_reference_opens_a_session_each(bundle: Bundle) -> None:
    with open_callers(bundle, "mlp", "fp32", 3, target="cpu-onnxruntime") as (sessions, how):
        assert len({id(session) for session in sessions}) == 3
        assert how == "one session per caller, each with the engine's weights"


def test_without_openvino_onnx_runtime_serves(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jetlift.runtime import session as module

    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(module, "_installed", lambda _: False)
    with open_callers(bundle, "mlp", "fp32", 2) as (sessions, _):
        assert {session.info.library for session in sessions} == {"onnxruntime"}


def test_wrong_calls_are_refused(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="0 callers"), open_callers(bundle, "mlp", "fp32", 0):
        pass
    with pytest.raises(UnknownNameError), open_callers(bundle, "mlp", "int4w", 2):
        pass


def test_threads_that_begin_in_a_fresh_process_do_not_wait_for_each_other(bundle: Bundle) -> None:
    """OpenVINO's binding can lock up where two threads make their first tensor at once."""
    code = (
        "import sys, threading, numpy as np\n"
        "from jetlift.runtime.bundle import Bundle\n"
        "from jetlift.runtime.session.callers import open_callers\n"
        "feeds = {'x': np.zeros((1, 16), np.float32)}\n"
        "with open_callers(Bundle.open(sys.argv[1]), 'mlp', 'fp32', 2, threads=2) as (two, _):\n"
        "    work = [threading.Thread(target=one.run, args=(feeds,)) for one in two]\n"
        "    [each.start() for each in work]; [each.join() for each in work]\n"
    )
    for _ in range(3):
        command = [sys.executable, "-c", code, str(bundle.folder)]
        subprocess.run(command, check=True, timeout=120)
