"""A made up household: four years of its bank and card transactions, as a bank's export has them.

Salaries every other Friday and at the end of a month, rent on the first, bills on their days,
subscriptions that become dearer, groceries at weekends, fuel, heating in winter, presents in
December, a journey in summer. Amounts, shops and habits are invented; nobody's data went in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

FIRST, LAST = date(2021, 1, 1), date(2024, 12, 31)
CHECKING, CARD = "Checking", "Platinum Card"
RAISE = 1.03
"""Once a year, of salaries and of most prices."""


class Bill(NamedTuple):
    """What is paid on a day of each month: in January, in July, and how far it varies."""

    description: str
    category: str
    day: int
    january: float
    july: float
    spread: float
    account: str = CHECKING


class Habit(NamedTuple):
    """What is bought now and then: how often in a week, for how much, and when more often."""

    descriptions: tuple[str, ...]
    category: str
    per_week: float
    median: float
    spread: float
    weekend: float = 1.0
    months: Mapping[int, float] = MappingProxyType({})
    account: str = CARD


BILLS = (
    Bill("Maple Street Apartments Rent", "Mortgage & Rent", 1, 1450, 1450, 0.0),
    Bill("City Power Company", "Utilities", 8, 78, 112, 0.12),
    Bill("Northern Gas Company", "Utilities", 12, 118, 24, 0.10),
    Bill("City Water Charges", "Utilities", 15, 35, 41, 0.06),
    Bill("Fibre Internet Service", "Internet", 25, 64.99, 64.99, 0.0),
    Bill("Bluebell Mobile Phone", "Mobile Phone", 20, 58.0, 58.0, 0.03),
    Bill("Harbour Auto Insurance", "Auto Insurance", 3, 92.0, 92.0, 0.0),
    Bill("Streamline TV Monthly", "Television", 5, 11.99, 11.99, 0.0, CARD),
    Bill("Melodia Music Premium", "Music", 17, 9.99, 9.99, 0.0, CARD),
    Bill("Corner Gym Membership", "Health & Fitness", 2, 34.0, 34.0, 0.0, CARD),
)

HABITS = (
    Habit(
        ("Grocery Store", "Green Valley Grocery", "Sunrise Supermarket", "Farmers Market Hall"),
        "Groceries",
        2.6,
        54,
        0.55,
        weekend=2.2,
        months={11: 1.15, 12: 1.3},
        account="Silver Card",
    ),
    Habit(("Superstore",), "Groceries", 0.35, 71, 0.5, weekend=2.0),
    Habit(("Superstore",), "Shopping", 0.25, 48, 0.7, weekend=2.0),
    Habit(
        ("Online Marketplace", "Department Store", "Bookshop on the Square", "Shoe Outlet"),
        "Shopping",
        1.1,
        37,
        0.8,
        months={7: 0.7, 11: 1.7, 12: 2.4},
    ),
    Habit(("Online Marketplace", "Electronics Depot"), "Electronics & Software", 0.16, 85, 0.9),
    Habit(
        (
            "American Tavern",
            "Thai Restaurant",
            "Little Italy Trattoria",
            "Seafood Restaurant",
            "Greek Restaurant",
            "Brunch Restaurant",
            "Noodle House",
        ),
        "Restaurants",
        1.2,
        39,
        0.45,
        weekend=2.6,
        months={7: 1.3, 8: 1.2},
    ),
    Habit(
        ("Pizza Place", "Burger Counter", "Taco Stand", "Sandwich Bar"), "Fast Food", 0.9, 14, 0.4
    ),
    Habit(
        ("Coffee Roasters", "Station Coffee", "Corner Espresso"),
        "Coffee Shops",
        1.8,
        4.6,
        0.3,
        weekend=0.5,
    ),
    Habit(
        ("Brewing Company", "Irish Pub", "Wine Bar Vintage"),
        "Alcohol & Bars",
        0.5,
        24,
        0.45,
        weekend=3.5,
        account="Silver Card",
    ),
    Habit(
        ("Shell Road Fuel", "Highway Gas Station", "QuickStop Fuel"),
        "Gas & Fuel",
        0.95,
        36,
        0.2,
        months={7: 1.4, 8: 1.3},
    ),
    Habit(
        ("Hardware Store", "Garden Centre", "Paint and Timber"),
        "Home Improvement",
        0.3,
        44,
        0.9,
        weekend=2.5,
        months={3: 2.0, 4: 2.6, 5: 2.2},
    ),
    Habit(("Barbershop", "Hair Studio Lena"), "Haircut", 0.2, 32, 0.2),
    Habit(("Riverside Pharmacy", "Dental Practice"), "Health & Fitness", 0.25, 22, 0.7),
    Habit(("Movie Theater", "Rental Movies"), "Movies & DVDs", 0.25, 17, 0.3, weekend=3.0),
    Habit(
        ("Concert Tickets", "Museum Pass", "Bowling Alley"),
        "Entertainment",
        0.15,
        41,
        0.5,
        weekend=2.5,
    ),
    Habit(
        ("Seaside Hotel", "Regional Railway", "Holiday Flights"),
        "Travel",
        0.12,
        190,
        0.7,
        months={1: 0.2, 6: 2.0, 7: 5.0, 8: 3.0, 12: 1.5},
    ),
)

TRANSFER = "Credit Card Payment"
"""Money that goes from one of the household's accounts to another, and so is no cashflow."""

Row = tuple[date, str, float, str, str, str]


def generated(seed: int) -> dict[str, Any]:
    """Return the export's six columns, about 3,100 rows in order of time; the same for a seed."""
    random = np.random.default_rng(seed)
    rows = [*_salaries(random), *_bills(random), *_purchases(random)]
    rows += _card_payments(rows)
    rows.sort(key=lambda row: (row[0], row[1], row[2]))
    return {
        "Date": [row[0].isoformat() for row in rows],
        "Description": [row[1] for row in rows],
        "Amount": [round(row[2], 2) for row in rows],
        "Transaction Type": [row[3] for row in rows],
        "Category": [row[4] for row in rows],
        "Account Name": [row[5] for row in rows],
    }


def _days() -> Iterator[date]:
    for offset in range((LAST - FIRST).days + 1):
        yield FIRST + timedelta(days=offset)


def _dearer(day: date) -> float:
    return float(RAISE ** (day.year - FIRST.year))


def _salaries(random: np.random.Generator) -> Iterator[Row]:
    """Two: one every other Friday, one on the last working day of a month, with a bonus in May."""
    for day in _days():
        if day.weekday() == 4 and day.toordinal() % 14 < 7:
            amount = 1180 * _dearer(day) * (1 + random.normal(0, 0.004))
            yield day, "Biweekly Paycheck Orion Logistics", amount, "credit", "Paycheck", CHECKING
        if day == _last_working_day(day):
            bonus = 900 * _dearer(day) if day.month == 5 else 0.0
            amount = 1520 * _dearer(day) + bonus
            yield day, "Salary Riverside School", amount, "credit", "Paycheck", CHECKING


def _last_working_day(day: date) -> date:
    last = (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    return last - timedelta(days=max(0, last.weekday() - 4))


def _bills(random: np.random.Generator) -> Iterator[Row]:
    """Each on its day of the month, or the Monday after where that is at a weekend."""
    for year in range(FIRST.year, LAST.year + 1):
        for month in range(1, 13):
            winter = (1 + np.cos((month - 1) / 12 * 2 * np.pi)) / 2
            for bill in BILLS:
                day = date(year, month, bill.day)
                day += timedelta(days={5: 2, 6: 1}.get(day.weekday(), 0))
                level = bill.july + (bill.january - bill.july) * winter
                amount = level * _dearer(day) * np.exp(bill.spread * random.normal())
                yield day, bill.description, float(amount), "debit", bill.category, bill.account


def _purchases(random: np.random.Generator) -> Iterator[Row]:
    for day in _days():
        for habit in HABITS:
            weekend = habit.weekend if day.weekday() >= 5 else 1.0
            rate = habit.per_week / 7 * weekend / ((5 + 2 * habit.weekend) / 7)
            for _ in range(random.poisson(rate * habit.months.get(day.month, 1.0))):
                amount = habit.median * np.exp(habit.spread * random.normal()) * _dearer(day)
                name = habit.descriptions[int(random.integers(len(habit.descriptions)))]
                if random.random() < 0.4:  # banks add the number of the branch
                    name = f"{name} #{random.integers(10, 990)}"
                yield day, name, max(1.0, float(amount)), "debit", habit.category, habit.account


def _card_payments(rows: list[Row]) -> list[Row]:
    """On the 22nd, what stood on each card up to then, taken from the one and put on the other."""
    payments: list[Row] = []
    for card in sorted({row[5] for row in rows} - {CHECKING}):
        spent = sorted((row for row in rows if row[5] == card), key=lambda row: row[0])
        since = FIRST
        for year in range(FIRST.year, LAST.year + 1):
            for month in range(1, 13):
                day = date(year, month, 22)
                amount = sum(row[2] for row in spent if since <= row[0] < day)
                since = day
                payments.append((day, TRANSFER, amount, "debit", TRANSFER, CHECKING))
                payments.append((day, TRANSFER, amount, "credit", TRANSFER, card))
    return payments
