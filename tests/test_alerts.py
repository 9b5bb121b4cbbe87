"""The file of a server's alerts."""

from __future__ import annotations

import json

import pytest

from found import SLOW
from greenroom.alerts import AlertRecord, Notice, alerts_file, read_alerts, write_alerts
from greenroom.errors import MonitoringError

RECORD = AlertRecord(
    alerts=(SLOW,),
    waiting=(Notice(id="1", at_s=2.0, kind="firing", alert=SLOW),),
    n_failed=2,
    tags={"credit/3": "GreenroomDataDrift"},
)


def test_what_is_written_is_read(tmp_path):
    path = alerts_file(tmp_path / "home", 8000)
    assert read_alerts(path) == AlertRecord()
    write_alerts(path, RECORD)
    assert read_alerts(path) == RECORD
    assert [one.name for one in path.parent.iterdir()] == ["8000.json"]


def test_a_file_of_a_later_format_or_of_nonsense_is_refused(tmp_path):
    path = tmp_path / "8000.json"
    path.write_text(json.dumps({"format": 2}))
    with pytest.raises(MonitoringError, match="upgrade greenroom"):
        read_alerts(path)
    path.write_text("[]")
    with pytest.raises(MonitoringError, match="cannot be read"):
        read_alerts(path)
