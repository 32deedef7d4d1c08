"""Reading a budget file.

Rule G1 of jetlift.runtime.budget: a file is TOML of the form of jetlift.runtime.budget_form. An
unknown name or unit is refused with the nearest one that is known.
"""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

from jetlift.runtime import jsonform
from jetlift.runtime.budget_form import BOUND, BudgetFile, FidelityLimit, Head, Limit, Limits
from jetlift.runtime.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path

    Sign = Literal["<=", ">="]

NAMES = tuple(item.name for item in fields(Limits) if item.name != "fidelity")
_FORM = "docs/budget.md has the form"


def read_budget(path: Path) -> BudgetFile:
    """Read a budget file (rule G1).

    Raises:
        InputError: It cannot be read, is not of the form, or sets no limit.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as a budget: {error}", expected="A TOML file", do=_FORM
        ) from error
    _refuse_unknown(data, path)
    with jsonform.refusing(path, InputError, do=_FORM):
        budget = jsonform.read(BudgetFile, _with_flat_names(data))
    _refuse_senseless(budget, path)
    return budget


def _refuse_unknown(data: dict[str, Any], path: Path) -> None:
    """Name what is nearest to an unknown name or unit (rule G1)."""
    known: dict[str, tuple[str, ...]] = {"": tuple(item.name for item in fields(BudgetFile))}
    known["budget"] = tuple(item.name for item in fields(Head))
    known["limits"] = (*NAMES, "fidelity")
    for place, names in known.items():
        table = data if not place else data.get(place)
        for key in table if isinstance(table, dict) else ():
            if key not in names:
                where = f"{place}.{key}" if place else key
                raise InputError(
                    f"{path} has {where}, which no budget knows",
                    expected=_nearest(key, names),
                    do=_FORM,
                )


def _nearest(key: str, names: tuple[str, ...]) -> str:
    stem, _, unit = key.rpartition("_")
    for name in names:
        known_stem, _, known_unit = name.rpartition("_")
        if stem and known_unit and stem == known_stem:
            return f"{name}: the unit is {known_unit}, not {unit}"
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"Perhaps {close[0]} is meant" if close else f"One of {', '.join(names)}"


def _with_flat_names(data: dict[str, Any]) -> dict[str, Any]:
    """With fidelity names as TOML's dotted keys have them: embedding.cosine_min is two tables."""
    limits = data.get("limits")
    if not isinstance(limits, dict) or not isinstance(limits.get("fidelity"), dict):
        return data
    flat: dict[str, Any] = {}
    for name, bound in limits["fidelity"].items():
        if isinstance(bound, dict) and "limit" not in bound:
            flat |= {f"{name}.{metric}": inner for metric, inner in bound.items()}
        else:
            flat[name] = bound
    return data | {"limits": limits | {"fidelity": flat}}


def _refuse_senseless(budget: BudgetFile, path: Path) -> None:
    given = [
        (name, limit) for name in NAMES if (limit := limit_of(budget.limits, name)) is not None
    ]
    bounds = budget.limits.fidelity or {}
    if not given and not bounds:
        raise InputError(
            f"{path} sets no limit", expected=f"At least one of {', '.join(NAMES)}", do=_FORM
        )
    for name, limit in given:
        least_allowed = limit.limit > 0 or name == "dropped_share"
        if not least_allowed or limit.limit < 0 or (name == "dropped_share" and limit.limit > 1):
            raise InputError(
                f"{path} limits {name} to {limit.limit:g}",
                expected="A share from 0 to 1" if name == "dropped_share" else "More than 0",
                do=_FORM,
            )
    for name, bound in bounds.items():
        parse_bound(name, bound_of(bound).limit)


def limit_of(limits: Limits, name: str) -> Limit | None:
    """The limit of a name in its long form; None where there is none."""
    given: float | Limit | None = getattr(limits, name)
    return Limit(given) if isinstance(given, (int, float)) else given


def bound_of(given: str | FidelityLimit) -> FidelityLimit:
    """A fidelity bound in its long form."""
    return FidelityLimit(given) if isinstance(given, str) else given


def parse_bound(name: str, bound: str) -> tuple[Sign, float, bool]:
    """Sign, number, and whether the number is a distance from fp32's figure (rule G4).

    Raises:
        InputError: It is no bound.
    """
    text = bound.strip()
    number = text[2:].strip()
    # The form lets 1.2.3 pass, which is no number.
    if re.fullmatch(BOUND, bound) is None or number.count(".") > 1:
        raise InputError(
            f"The budget limits fidelity.{name} to {bound!r}",
            expected="A bound like '>=0.98', or '<=+0.5' against fp32's own figure",
            do=_FORM,
        )
    return (">=" if text.startswith(">") else "<="), float(number), number[0] in "+-"
