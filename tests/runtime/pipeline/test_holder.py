from __future__ import annotations

import pytest

from jetlift.runtime.errors import UsageError
from jetlift.runtime.pipeline.holder import TaskHolder
from jetlift.runtime.pipeline.synthetic import SyntheticTask


def test_what_a_task_rests_on_is_closed_after_its_last_item() -> None:
    closed: list[str] = []
    first, second = SyntheticTask(), SyntheticTask()
    holder = TaskHolder(first, lambda: closed.append("first"))
    early, late = holder.lease(), holder.lease()
    holder.swap(second, lambda: closed.append("second"))
    assert holder.lease().task is holder.task is second
    assert early.task is late.task is first
    early.give_back()
    early.give_back()  # does nothing: `late` still uses it
    assert closed == []
    late.give_back()
    assert closed == ["first"]


def test_an_idle_task_is_closed_at_once() -> None:
    closed: list[str] = []
    holder = TaskHolder(SyntheticTask(), lambda: closed.append("first"))
    holder.lease().give_back()
    assert closed == []
    holder.swap(SyntheticTask(), lambda: closed.append("second"))
    assert closed == ["first"]
    assert holder.swaps == 1


def test_closing_waits_for_the_last_lease_and_takes_no_more() -> None:
    closed: list[str] = []
    with TaskHolder(SyntheticTask(), lambda: closed.append("first")) as holder:
        lease = holder.lease()
    assert closed == []
    with pytest.raises(UsageError, match="closed"):
        holder.lease()
    with pytest.raises(UsageError, match="closed"):
        holder.swap(SyntheticTask())
    lease.give_back()
    holder.close()
    assert closed == ["first"]
