"""From a bank's export to the rows of the four models.

The export has the columns ``Date``, ``Description``, ``Amount``, ``Transaction Type``, ``Category``
and ``Account Name``; ``data/README.md`` says what stands in each. An amount has no sign: the type,
``debit`` or ``credit``, says which way the money went.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .features.cashflow import CONTEXT_DAYS, MAX_HORIZON_DAYS, daily, describe
from .generated import TRANSFER

Table = dict[str, npt.NDArray[Any]]

_ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ].*)?")
_AMERICAN = re.compile(r"(\d{1,2})[-/](\d{1,2})[-/](\d{4})")

PLANTED_SHARE = 0.03
"""How many anomalies are planted for each real transaction."""

ORIGINS_A_DAY = 4
"""How often each day is forecast in training, each time from another day before it."""

FIRST_ORIGIN_DAYS = 120
"""How much history there is before the first forecast."""


class Transactions(NamedTuple):
    """An export, column by column, each of shape (n_rows,) and in order of time."""

    date: npt.NDArray[np.datetime64]
    description: npt.NDArray[Any]
    amount: npt.NDArray[np.float64]
    credit: npt.NDArray[np.bool_]
    category: npt.NDArray[Any]

    def take(self, rows: npt.NDArray[Any]) -> Transactions:
        """Return some of the rows."""
        return Transactions(*(values[rows] for values in self))


def read(table: Table) -> Transactions:
    """Read an export's columns.

    Raises
    ------
    KeyError
        When a column is not there.
    ValueError
        Naming the column in which something is no date, amount or type, and the rows.
    """
    types = [str(value).strip().lower() for value in table["Transaction Type"]]
    _require(np.isin(types, ("debit", "credit")), "Transaction Type", "is debit or credit")
    found = Transactions(
        date=_parsed(table["Date"], _date, "Date", "is a date: 2024-01-15, 01/15/2024, 01-15-2024"),
        description=np.array([str(value or "").strip() for value in table["Description"]], object),
        amount=_parsed(table["Amount"], _amount, "Amount", "is an amount without a sign"),
        credit=np.array(types) == "credit",
        category=np.array([str(value or "").strip() for value in table["Category"]], object),
    )
    return found.take(np.argsort(found.date, kind="stable"))


def for_category(table: Table) -> dict[str, Any]:
    """Return rows of description, amount and date, with their category."""
    found = read(table)
    return _named(found, "Description", "Amount", "Date", "Category")


def for_amount(table: Table) -> dict[str, Any]:
    """Return the same without transfers, whose amount is only a sum of others."""
    found = read(table)
    own = found.take(found.category != TRANSFER)
    return _named(own, "Description", "Category", "Date", "Amount")


def for_anomaly(table: Table) -> dict[str, Any]:
    """Return every transaction, none of them called an anomaly, and planted ones, which are."""
    found = read(table)
    planted = _planted(found, np.random.default_rng(len(found.date)))
    both = Transactions(*(np.concatenate(pair) for pair in zip(found, planted, strict=True)))
    anomaly = np.repeat([0, 1], [len(found.date), len(planted.date)])
    order = np.argsort(both.date, kind="stable")
    rows = _named(both.take(order), "Amount", "Category", "Date")
    return {**rows, "Anomaly": anomaly[order]}


def for_cashflow(table: Table) -> dict[str, Any]:
    """Return days to forecast, each several times: what was known on some day before, and the net.

    How long before is drawn so that each order of magnitude, from a day to a year, is as frequent.
    """
    found = read(table)
    days, net = daily(*_signed(found))
    if len(days) < FIRST_ORIGIN_DAYS * 2:
        raise ValueError(f"{len(days)} days of transactions are too few to forecast from")
    random = np.random.default_rng(len(days))
    parts = []
    for place in range(FIRST_ORIGIN_DAYS + 1, len(days)):
        furthest = min(MAX_HORIZON_DAYS, place - FIRST_ORIGIN_DAYS)
        drawn = np.exp(random.uniform(0, np.log(furthest + 1), ORIGINS_A_DAY)).astype(int)
        for horizon in sorted({max(1, int(one)) for one in drawn}):
            known = slice(0, place - horizon + 1)
            parts.append(describe(days[known], net[known], days[place : place + 1]))
            parts[-1]["net"] = net[place : place + 1]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def recent_cashflow(table: Table) -> dict[str, Any]:
    """Return the account's last days, which a forecast starts from when a request sends none."""
    days, net = daily(*_signed(read(table)))
    return {"date": days[-CONTEXT_DAYS:], "amount": net[-CONTEXT_DAYS:]}


def _named(found: Transactions, *names: str) -> dict[str, Any]:
    """Return some of the columns by the names that the export gives them."""
    columns = {
        "Description": found.description,
        "Category": found.category,
        "Amount": found.amount,
        "Date": found.date,
    }
    return {name: columns[name] for name in names}


def _signed(found: Transactions) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return dates and amounts, spending negative, without transfers between own accounts."""
    own = found.take(found.category != TRANSFER)
    return own.date, np.where(own.credit, own.amount, -own.amount)


def _planted(found: Transactions, random: np.random.Generator) -> Transactions:
    """Return altered copies of transactions drawn at random: what a household would want to know.

    Two in three have an amount of 3 to 20 times, or, a few, of less than a tenth of what it was;
    the others are moved by 8 to 20 days and stand out only where a day means something.
    """
    n_planted = max(2, round(PLANTED_SHARE * len(found.date)))
    copied = found.take(np.sort(random.choice(len(found.date), n_planted)))
    kind = random.random(n_planted)
    factor = np.exp(random.uniform(np.log(3), np.log(20), n_planted))
    amount = np.where(kind < 0.55, copied.amount * factor, copied.amount)
    amount = np.where((kind >= 0.55) & (kind < 0.67), copied.amount / (5 * factor), amount)
    moved = np.where(kind >= 0.67, random.integers(8, 21, n_planted), 0)
    moved = np.where(copied.date + moved > found.date[-1], -moved, moved)
    return copied._replace(amount=np.round(np.maximum(amount, 0.01), 2), date=copied.date + moved)


def _parsed(
    values: npt.NDArray[Any], parse: Callable[[Any], Any], column: str, rule: str
) -> npt.NDArray[Any]:
    parsed = [parse(value) for value in values]
    _require(np.array([value is not None for value in parsed]), column, rule)
    return np.array(parsed)


def _require(good: npt.NDArray[np.bool_], column: str, rule: str) -> None:
    rows = np.flatnonzero(~good)
    if len(rows):
        shown = ", ".join(str(row + 1) for row in rows[:3]) + (", ..." if len(rows) > 3 else "")
        raise ValueError(f"column {column!r}: not every value {rule} (rows {shown})")


def _date(value: Any) -> np.datetime64 | None:
    text = str(value).strip()
    iso, american = _ISO.fullmatch(text), _AMERICAN.fullmatch(text)
    if iso is not None:
        year, month, day = map(int, iso.groups())
    elif american is not None:
        month, day, year = map(int, american.groups())
    else:
        return None
    try:
        return np.datetime64(date(year, month, day), "D")
    except ValueError:
        return None


def _amount(value: Any) -> float | None:
    try:
        amount = float(str(value).replace(",", ""))
    except ValueError:
        return None
    return amount if np.isfinite(amount) and amount >= 0 else None
