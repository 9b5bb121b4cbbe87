"""What a proved version answers beside its predictions."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

import builders
from greenroom.inference.proving import proved
from greenroom.inference.runtime import load_runtime
from real_server import deployed


def answer(directory, *, fallback: bool) -> dict:
    deployment = deployed(directory)
    if fallback:
        serving = replace(deployment.serving, stage="fallback", source="fallback")
        deployment = replace(deployment, serving=serving)
    return json.loads(proved(deployment, None, load_runtime).answer(b'{"a": 1.0, "b": 2}'))


@pytest.mark.parametrize("fields", [{}, {"p": "probability", "stage": "model_stage"}])
def test_a_fallbacks_reply_says_so_whatever_fields_the_app_asks_for(tmp_path, fields):
    directory = builders.version(tmp_path / "1", reply=fields)
    selected, fallback = answer(directory, fallback=False), answer(directory, fallback=True)
    assert "model_source" not in selected
    assert fallback["model_source"] == "fallback"
    assert fallback["stage" if fields else "model_stage"] == "fallback"
    assert set(fallback) == {*selected, "model_source"}
