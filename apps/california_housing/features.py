"""What the housing model looks at, made from the columns of a block group.

Self-contained: this file travels inside each version, and training and serving run it alike.

Where a house stands is most of what it costs, and trees cut along axes only, while California lies
aslant: coast, valleys and mountains run from north-west to south-east. So the place is also given
along axes turned by 15 to 75 degrees, and as distances to the five largest centres. The counts of
a block group say little by themselves; rooms, bedrooms and people for each household say more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MILES_PER_DEGREE = 69.0
"""Of latitude; of longitude it is this times the cosine of the latitude."""

MIDDLE_LATITUDE = 36.0
"""At which degrees of longitude are measured; the state's corners are 12 % off at the most."""

TURNS_DEGREES = (15, 30, 45, 60, 75)
CENTRES = {
    "san_francisco": (37.77, -122.42),
    "los_angeles": (34.05, -118.24),
    "san_jose": (37.34, -121.89),
    "san_diego": (32.72, -117.16),
    "sacramento": (38.58, -121.49),
}
"""Latitude and longitude, in degrees."""

SHORES = {
    "island": "ISLAND",
    "near_bay": "NEAR BAY",
    "near_ocean": "NEAR OCEAN",
    "inland": "INLAND",
}


def features(columns: dict[str, Array]) -> dict[str, Array]:
    """Return the estimator's columns, with as many rows as ``columns``."""
    people, households = columns["population"], columns["households"]
    rooms, bedrooms = columns["total_rooms"], columns["total_bedrooms"]
    income = columns["median_income"]
    return {
        **_place(columns["latitude"], columns["longitude"]),
        **_shore(columns["ocean_proximity"]),
        "age": columns["housing_median_age"],
        "rooms": rooms,
        "bedrooms": bedrooms,
        "people": people,
        "households": households,
        "income": income,
        "rooms_per_household": rooms / households,
        "bedrooms_per_room": bedrooms / rooms,
        "people_per_household": people / households,
        "people_per_room": people / rooms,
        "income_times_rooms": income * rooms / households,
        "income_per_head": income * households / people,
    }


def _place(latitude: Array, longitude: Array) -> dict[str, Array]:
    """Return where a block group lies, in miles, along several axes and from each centre."""
    north, east = _miles(latitude, longitude)
    place = {"north": north, "east": east}
    for degrees in TURNS_DEGREES:
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        place[f"north_turned_{degrees}"] = north * cosine + east * sine
        place[f"east_turned_{degrees}"] = east * cosine - north * sine
    for name, centre in CENTRES.items():
        there = _miles(*centre)
        place[f"to_{name}"] = np.hypot(north - there[0], east - there[1])
    return place


def _miles(latitude: Array | float, longitude: Array | float) -> tuple[Array, Array]:
    """Return miles north of the equator and east of Greenwich, on a plane."""
    east = MILES_PER_DEGREE * np.cos(np.deg2rad(MIDDLE_LATITUDE))
    return np.asarray(latitude) * MILES_PER_DEGREE, np.asarray(longitude) * east


def _shore(proximity: npt.NDArray[np.object_]) -> dict[str, Array]:
    """Return a column for each kind of shore, 1 where it is that kind; else all are 0."""
    return {name: (proximity == kind).astype(np.float64) for name, kind in SHORES.items()}
