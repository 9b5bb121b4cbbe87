"""Management routes are declared as paths, and a wrong one is named."""

from __future__ import annotations

import pytest

from greenroom.errors import AppError
from greenroom.management import Management


def test_what_is_not_declared_is_not_answered():
    assert Management().paths == ()
    assert Management(model="/m/{name}", reload="/reload").paths == ("/reload", "/m/{name}")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"reload": "reload"}, "management.reload: 'reload' is not a path"),
        ({"models": "/models/{name}"}, "management.models: .* without a parameter"),
        ({"model": "/models"}, "management.model: .* with {name} in it, once"),
        ({"transition": "/m/{model}"}, "management.transition: .* with {name} in it, once"),
        ({"model": "/{name}/{name}"}, "management.model: .* with {name} in it, once"),
        ({"gated": "yes"}, "management.gated"),
    ],
)
def test_a_wrong_path_is_named(fields, named):
    with pytest.raises(AppError, match=named):
        Management(**fields)
