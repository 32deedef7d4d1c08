from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from jetlift.export.fidelity import VectorMetric, parse_budget
from jetlift.export.precision.evaluate import Evaluator, Measured, fingerprint_of, open_log
from jetlift.export.precision.int8 import observe_sites
from jetlift.export.precision.search import MARGIN, Search
from jetlift.export.precision.sites import by_activation, find_sites
from jetlift.runtime.errors import FidelityError, InputError

RANDOM = np.random.default_rng(7)
SAMPLES = [{"x": RANDOM.standard_normal((1, 16)).astype(np.float32)} for _ in range(6)]
BUDGET = parse_budget("cosine_min>=0.9")


class Invented(Evaluator):
    """Measures by a formula of what is wide: any blame per block, and per pair of blocks."""

    def __init__(self, blame: dict[str, float], pairs: dict[tuple[str, str], float]) -> None:
        super().__init__(None, [], VectorMetric(), BUDGET)
        self.blame, self.pairs, self.asked = blame, pairs, 0

    def knows(self, assignment: object) -> bool:  # noqa: ARG002 - a stand-in knows nothing
        return False

    def measure(self, assignment, make) -> Measured:  # noqa: ARG002 - there is no graph
        self.asked += 1
        narrow = set(self.blame) - set(assignment[1])
        loss = sum(self.blame[name] for name in narrow)
        loss += sum(more for pair, more in self.pairs.items() if set(pair) <= narrow)
        figures = {"y.cosine_min": 1 - max(0.0, loss), "y.cosine_mean": 1 - max(0.0, loss) / 2}
        return Measured(figures, max(0.0, loss), 1 - max(0.0, loss) / 0.1)


NAMES = [f"b{i}" for i in range(9)]


class Frozen(Search):
    """A search whose blocks are names only."""

    def _prepare(self, assignment):  # noqa: ARG002 - there is no graph
        return None


def invented_search(evaluator: Invented, operations: dict[str, float], **options) -> Search:
    return Frozen(None, dict.fromkeys(operations), operations, evaluator, **options)


blames = st.lists(st.floats(-0.01, 0.2), min_size=1, max_size=9)


@given(blames, st.data(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_never_returns_an_assignment_that_misses_the_budget(blame, data, explore):
    names = NAMES[: len(blame)]
    pairs = {
        (a, b): data.draw(st.floats(-0.05, 0.1)) for a in names[:3] for b in names[3:5] if a != b
    }
    operations = {name: data.draw(st.floats(1, 100)) for name in names}
    evaluator = Invented(dict(zip(names, blame, strict=True)), pairs)
    try:
        found = invented_search(evaluator, operations, explore=explore).run()
    except FidelityError:
        assert evaluator.measure([{}, []], None).slack < MARGIN
        return
    assert found.measured.slack >= MARGIN
    again = evaluator.measure([{}, sorted(found.assignment.wide)], None)
    assert again == found.measured
    assert found.finished


@given(blames, st.data())
@settings(max_examples=30, deadline=None)
def test_what_is_left_wide_is_needed(blame, data):
    names = NAMES[: len(blame)]
    operations = {name: data.draw(st.floats(1, 100)) for name in names}
    evaluator = Invented(dict(zip(names, (abs(b) for b in blame), strict=True)), {})
    try:
        found = invented_search(evaluator, operations).run()
    except FidelityError:
        assert min(evaluator.blame.values()) > 0.1 * (1 - MARGIN)
        return
    cheapest = min(found.assignment.wide, key=operations.__getitem__, default=None)
    if cheapest is not None:
        narrower = evaluator.measure([{}, sorted(found.assignment.wide - {cheapest})], None)
        assert narrower.slack < MARGIN


def test_time_that_is_over_still_gives_an_answer_within_the_budget():
    evaluator = Invented(dict.fromkeys(NAMES, 0.05), {})
    operations = dict.fromkeys(NAMES, 1.0)
    found = invented_search(evaluator, operations, time_limit_s=-1.0).run()
    assert not found.finished
    assert found.measured.slack >= MARGIN
    assert evaluator.asked < 12


def test_one_culprit_is_found():
    evaluator = Invented(dict.fromkeys(NAMES, 0.001) | {"b4": 0.5}, {})
    found = invented_search(evaluator, dict.fromkeys(NAMES, 1.0)).run()
    assert found.assignment.wide == {"b4"}
    assert max(found.sensitivity, key=found.sensitivity.get) == "b4"


def test_budget_without_an_answer_is_an_error_that_says_how_near():
    evaluator = Invented(dict.fromkeys(NAMES, 0.2), {})
    operations = dict.fromkeys(NAMES, 1.0)
    with pytest.raises(FidelityError, match=r"The nearest: y.cosine_min is 0\.8000, asked >= 0.9"):
        invented_search(evaluator, operations).run()
    kept = invented_search(evaluator, operations, keep=True).run()
    assert kept.assignment.wide == frozenset()
    assert kept.measured.slack < 0


def test_of_equal_operations_the_one_stays_wide_that_int8_helps_least():
    blame = {"b0": 0.06, "b1": 0.05, "b2": 0.0, "b3": 0.06}
    operations = {"b0": 8.0, "b1": 8.0, "b2": 8.0, "b3": 1.0}
    plain = invented_search(Invented(blame, {}), operations).run()
    assert plain.assignment.wide == {"b3", "b0"}
    saved = {"b0": 4.0, "b1": 1.0, "b2": 0.5, "b3": 0.1}
    found = invented_search(Invented(blame, {}), operations, saved_s=saved).run()
    # b2 is cheaper still, but the budget does not hold with it in b0's place.
    assert found.assignment.wide == {"b3", "b1"}
    assert found.measured.slack >= MARGIN


@given(blames, st.data())
@settings(max_examples=30, deadline=None)
def test_exchanging_changes_no_operations(blame, data):
    names = NAMES[: len(blame)]
    operations = {name: data.draw(st.sampled_from([1.0, 2.0])) for name in names}
    saved = {name: data.draw(st.floats(0, 1)) for name in names}
    evaluator = Invented(dict(zip(names, blame, strict=True)), {})

    def wide_of(**options) -> frozenset[str]:
        return invented_search(evaluator, operations, **options).run().assignment.wide

    try:
        wide = wide_of()
    except FidelityError:
        return
    exchanged = Frozen(None, {}, operations, evaluator, saved_s=saved)
    exchanged._current = invented_search(evaluator, operations).run().assignment
    exchanged._deadline = float("inf")
    after = exchanged._exchange(wide)
    assert sum(map(operations.get, after)) == sum(map(operations.get, wide))
    assert sum(map(saved.get, after)) <= sum(map(saved.get, wide))
    assert evaluator.measure([{}, sorted(after)], None).slack >= MARGIN


def real_search(log=None, **options) -> Search:
    source = graphs.mlp()
    sites = find_sites(source.graph)[0]
    seen = observe_sites(source, sites, SAMPLES[:4])
    operations = dict.fromkeys(by_activation(sites), 1.0)
    budget = parse_budget("cosine_min>=0.5")
    evaluator = Evaluator(source, SAMPLES[4:], VectorMetric(), budget, log)
    return Search(source, seen, operations, evaluator, **options)


def test_interrupted_search_goes_on_where_it_was(tmp_path):
    path = tmp_path / "search.jsonl"
    stop_after = 5

    def stop(_doing: str, _share: float) -> None:
        nonlocal stop_after
        stop_after -= 1
        if stop_after < 0:
            raise KeyboardInterrupt

    with open_log(path, "k") as log, pytest.raises(KeyboardInterrupt):
        real_search(log, explore=True, tell=stop).run()
    with path.open("a") as file:
        file.write('{"assignment": "half a li')  # as a killed process would leave it
    before = len(path.read_text().splitlines()) - 2
    assert before == 5
    with open_log(path, "k") as log:
        resumed = real_search(log, explore=True)
        found = resumed.run()
    fresh = real_search(explore=True)
    assert fresh.run().assignment == found.assignment
    assert resumed.evaluator.evaluations == fresh.evaluator.evaluations - before
    for line in path.read_text().splitlines():
        json.loads(line)


def test_log_of_another_search_is_refused(tmp_path):
    path = tmp_path / "search.jsonl"
    with open_log(path, "one"):
        pass
    with pytest.raises(InputError, match="another graph, other samples"), open_log(path, "two"):
        pass
    path.write_text("no log\n")
    with pytest.raises(InputError, match="line 1 cannot be read"), open_log(path, "one"):
        pass


def test_fingerprints_differ_by_content_and_not_by_order():
    assert fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": 2})
