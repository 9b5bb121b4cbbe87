"""From conditions to alerts: pending, firing, resolved, and which notices are due.

Pure: what was known, what holds now and the time go in, what is known now and the notices come out.
The words and the order of states are Prometheus' (pending, firing) and Alertmanager's (resolved).
Which conditions there are is :mod:`greenroom.monitoring.alert_rules`' business, where notices go
:mod:`greenroom.monitoring.delivery`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple, TypeAlias
from uuid import uuid4

import msgspec

from greenroom.alerts import Alert, Notice, Severity

__all__ = ["RESOLVED_S", "Condition", "Step", "resumed", "step"]

RESOLVED_S: Final = 900.0
"""How long an alert that is over is still told of, as Prometheus does: a quarter of an hour."""

_Kind: TypeAlias = Literal["firing", "repeated", "resolved"]


class Condition(NamedTuple):
    """Something that should not be so.

    Parameters
    ----------
    name : str
    severity : {"critical", "warning"}
    labels : dict of str to str
    summary, description : str
    for_s : float
        How long it has to hold before its alert fires, and not to hold before that is over.
    n_times : int
        In how many pieces of evidence, one after the other, it has to be.
    evidence : str
        What it was seen in: the same for as long as nothing new was looked at.
    known : bool
        False where it cannot be told whether it holds: then an alert that fires goes on, and a
        pending one begins anew.
    """

    name: str
    severity: Severity
    labels: dict[str, str]
    summary: str
    description: str = ""
    for_s: float = 0.0
    n_times: int = 1
    evidence: str = ""
    known: bool = True


class Step(NamedTuple):
    """What is known after a look: the alerts, and the notices that are due, in their order."""

    alerts: tuple[Alert, ...]
    notices: tuple[Notice, ...]


def step(
    alerts: Iterable[Alert], conditions: Iterable[Condition], now_s: float, *, repeat_s: float = 0.0
) -> Step:
    """Go from one look to the next.

    Parameters
    ----------
    alerts : iterable of Alert
        What was known.
    conditions : iterable of Condition
        What holds now, or cannot be told; what is not among them does not hold.
    now_s : float
        The Unix time.
    repeat_s : float
        After how long the notice of an alert that still fires is made again; 0: never.

    Examples
    --------
    >>> slow = Condition("Slow", "warning", {"model": "m"}, "slow", for_s=60.0)
    >>> alerts, notices = step((), [slow], 0.0)
    >>> alerts[0].state, notices
    ('pending', ())
    >>> alerts, notices = step(alerts, [slow], 60.0)
    >>> alerts[0].state, [notice.kind for notice in notices]
    ('firing', ['firing'])
    >>> alerts, _ = step(alerts, [], 70.0)  # it has to be gone for as long
    >>> alerts, notices = step(alerts, [], 130.0)
    >>> alerts[0].state, [notice.kind for notice in notices]
    ('resolved', ['resolved'])
    """
    before = {alert.key: alert for alert in alerts}
    now = {_key(condition): condition for condition in conditions}
    found: list[Alert] = []
    for key in dict.fromkeys((*before, *now)):
        alert, condition = before.get(key), now.get(key)
        next_one = _next(alert, condition, now_s)
        if next_one is not None:
            found.append(next_one)
    settled = [_notified(alert, before.get(alert.key), now_s, repeat_s) for alert in found]
    return Step(
        tuple(alert for alert, _ in settled),
        tuple(notice for _, notice in settled if notice is not None),
    )


def resumed(alerts: Iterable[Alert], now_s: float) -> tuple[Alert, ...]:
    """Return the alerts of a server before this one, as they are taken up again.

    What fired fires on. Nobody has looked in between, so that what was pending has not held for
    any time yet; the monitoring runs in which it was seen still count.
    """
    return tuple(_begun_anew(alert, now_s) for alert in alerts)


def _begun_anew(alert: Alert, now_s: float) -> Alert:
    if alert.state == "pending":
        return msgspec.structs.replace(alert, began_at_s=now_s)
    if alert.gone_at_s is not None and alert.state == "firing":
        return msgspec.structs.replace(alert, gone_at_s=None)
    return alert


def _key(condition: Condition) -> tuple[str, tuple[tuple[str, str], ...]]:
    return condition.name, tuple(sorted(condition.labels.items()))


def _next(alert: Alert | None, condition: Condition | None, now_s: float) -> Alert | None:
    """Return what becomes of one alert; None where there is nothing to know of it any more."""
    if alert is None or alert.state == "resolved":
        if condition is not None and condition.known:
            return _fired(_pending(condition, now_s), condition, now_s)
        if alert is None or now_s - (alert.resolved_at_s or now_s) > RESOLVED_S:
            return None
        return alert
    if condition is None:
        return _ending(alert, now_s)
    if not condition.known:
        return alert if alert.state == "firing" else None
    return _fired(_seen(alert, condition, now_s), condition, now_s)


def _pending(condition: Condition, now_s: float) -> Alert:
    return Alert(
        name=condition.name,
        severity=condition.severity,
        labels=condition.labels,
        summary=condition.summary,
        description=condition.description,
        for_s=condition.for_s,
        began_at_s=now_s,
        evidence=condition.evidence,
    )


def _seen(alert: Alert, condition: Condition, now_s: float) -> Alert:
    """Note that the condition of an alert holds, and how it is worded now."""
    return msgspec.structs.replace(
        alert,
        severity=condition.severity,
        summary=condition.summary,
        description=condition.description,
        for_s=condition.for_s,
        # A clock that was set back must not make it wait for hours.
        began_at_s=min(alert.began_at_s, now_s),
        gone_at_s=None,
        evidence=condition.evidence,
        n_seen=alert.n_seen + (condition.evidence != alert.evidence),
    )


def _fired(alert: Alert, condition: Condition, now_s: float) -> Alert:
    held = now_s - alert.began_at_s >= condition.for_s and alert.n_seen >= condition.n_times
    if alert.state == "firing" or not held:
        return alert
    return msgspec.structs.replace(alert, state="firing", fired_at_s=now_s)


def _ending(alert: Alert, now_s: float) -> Alert | None:
    """Return what becomes of an alert whose condition does not hold."""
    if alert.state == "pending":
        return None
    gone_at_s = now_s if alert.gone_at_s is None else min(alert.gone_at_s, now_s)
    if now_s - gone_at_s < alert.for_s:
        return msgspec.structs.replace(alert, gone_at_s=gone_at_s)
    return msgspec.structs.replace(
        alert, state="resolved", gone_at_s=gone_at_s, resolved_at_s=now_s
    )


def _notified(
    alert: Alert, before: Alert | None, now_s: float, repeat_s: float
) -> tuple[Alert, Notice | None]:
    """Return the alert, and the notice that is due for what has become of it."""
    kind = _kind(alert, before, now_s, repeat_s)
    if kind is None:
        return alert, None
    noted = msgspec.structs.replace(alert, notified_at_s=now_s)
    return noted, Notice(id=uuid4().hex, at_s=now_s, kind=kind, alert=noted)


def _kind(alert: Alert, before: Alert | None, now_s: float, repeat_s: float) -> _Kind | None:
    fired_before = before is not None and before.state == "firing"
    if alert.state == "resolved":
        return "resolved" if fired_before else None
    if alert.state != "firing":
        return None
    if not fired_before:
        return "firing"
    told_at_s = now_s if alert.notified_at_s is None else alert.notified_at_s
    return "repeated" if repeat_s and now_s - told_at_s >= repeat_s else None
