"""Monitor: one monitoring run, from what is to be looked at to findings, report and MLflow's run.

For each model the served version is found and compared; what is found is put into the trend and,
where it is of the log, into the file that the server shows and alerts are raised on. Then the
report is written, and a run in MLflow for each model. One model of several that cannot be looked at
does not keep the others from it, and MLflow being away takes nothing from what is written here.

How a version is compared with its reference is given to it (:mod:`greenroom.monitoring.comparing`).
No HTTP, no printing.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from greenroom.errors import GreenroomError, MonitoringError, NothingToCompare
from greenroom.findings import Findings, findings_file, read_findings, write_findings
from greenroom.monitoring.conclusions import Conclusion, conclude
from greenroom.monitoring.measured import Measured, Subject
from greenroom.monitoring.served import Served
from greenroom.monitoring.tracked import MonitoringRuns
from greenroom.monitoring.trend import TREND_FILE, Trend, point_of
from greenroom.progress import OnProgress, silent

__all__ = ["LOG", "Monitor", "MonitoringRun"]

LOG: Final = "log"
"""What findings call their source where that is the prediction log."""


@dataclass(slots=True, kw_only=True)
class MonitoringRun:
    """What came of a run.

    Parameters
    ----------
    findings : tuple of Findings
        One for each model that could be looked at.
    conclusions : tuple of Conclusion
        Of these, in the same order.
    problems : dict of str to GreenroomError
        By model, why it could not.
    report : Path, optional
        Where the report is.
    addresses : dict of str to str
        By model, where its run is in MLflow's pages.
    notes : list of str
        What else did not work.
    """

    findings: tuple[Findings, ...] = ()
    conclusions: tuple[Conclusion, ...] = ()
    problems: dict[str, GreenroomError] = field(default_factory=dict)
    report: Path | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether there is drift, or a worse performance, of any model."""
        return any(one.state == "found" for one in self.conclusions)


class Monitor:
    """What makes monitoring runs.

    Parameters
    ----------
    home : Path
        The home folder; what is kept is in ``monitoring`` there.
    find_served : callable
        ``Subject -> Served``.
    compare : callable
        ``(Subject, Served) -> Measured``.
    source : str
        What is compared: :data:`LOG`, or a file's name.
    runs : MonitoringRuns, optional
        Where runs are written to in MLflow; None: nowhere.
    now : callable
        The time.
    """

    def __init__(
        self,
        home: Path,
        find_served: Callable[[Subject], Served],
        compare: Callable[[Subject, Served], Measured],
        *,
        source: str = LOG,
        runs: MonitoringRuns | None = None,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._home: Final = home
        self._find_served: Final = find_served
        self._compare: Final = compare
        self._source: Final = source
        self._runs: Final = runs
        self._now: Final = now
        self._trend: Final = Trend(home / "monitoring" / TREND_FILE)

    @property
    def default_report(self) -> Path:
        """Where the report is written to that nobody has named a place for."""
        plain = re.sub(r"[^\w.-]+", "-", self._source).strip("-.")
        name = "report.html" if self._source == LOG else f"report-{plain}.html"
        return self._home / "monitoring" / name

    def run(
        self,
        subjects: Sequence[Subject],
        *,
        report: Path | None = None,
        on_progress: OnProgress = silent,
    ) -> MonitoringRun:
        """Look at models once.

        Parameters
        ----------
        subjects : sequence of Subject
        report : Path, optional
            Where the report is written to; default: :attr:`default_report`.
        on_progress : callable

        Raises
        ------
        MonitoringError
            When what was found cannot be written.
        GreenroomError
            When there is one model, or there are several of which none can be looked at: why not.
        """
        run = MonitoringRun()
        found, params = [], {}
        for place, subject in enumerate(subjects):
            on_progress(f"looking at {subject.name}", place / len(subjects))
            try:
                served = self._find_served(subject)
                measured = self._compare(subject, served)
            except GreenroomError as error:
                run.problems[subject.name] = error
                continue
            found.append(self._finding(subject, served, measured))
            params[subject.name] = dict(measured.params)
        self._keep(found, run.problems)
        if not found:
            raise next(iter(run.problems.values()))
        run.findings = tuple(found)
        run.conclusions = tuple(conclude(one) for one in found)
        self._trend.add([point_of(one) for one in found])
        on_progress("drawing", None)
        self._write(run, params, report or self.default_report, on_progress)
        return run

    def _finding(self, subject: Subject, served: Served, measured: Measured) -> Findings:
        return Findings(
            app=subject.app,
            model=subject.name,
            version=served.version,
            digest=served.digest,
            at=_text(self._now()),
            source=self._source,
            since=None if measured.since is None else _text(measured.since),
            until=None if measured.until is None else _text(measured.until),
            n_rows=measured.n_rows,
            drift=measured.drift,
            performance=measured.performance,
            estimate=measured.estimate,
            notes=tuple(one for one in (served.note, *measured.notes) if one),
        )

    def _keep(self, found: Sequence[Findings], problems: Mapping[str, GreenroomError]) -> None:
        """Put findings of the log in the place of the models' earlier ones.

        A model of which there is nothing to find any more has none; one that could not be looked
        at keeps what it had. What a file holds is nothing for the server to show.
        """
        if self._source != LOG:
            return
        path = findings_file(self._home)
        gone = {one.model for one in found}
        gone |= {name for name, why in problems.items() if isinstance(why, NothingToCompare)}
        try:
            earlier = read_findings(path)
        except MonitoringError:
            earlier = ()  # it is replaced
        kept = tuple(one for one in earlier if one.model not in gone)
        if not found and len(kept) == len(earlier):
            return
        try:
            write_findings(path, (*kept, *found))
        except OSError as error:
            raise MonitoringError(f"{path} cannot be written: {error.strerror}") from error

    def _write(
        self,
        run: MonitoringRun,
        params: Mapping[str, Mapping[str, str]],
        report: Path,
        on_progress: OnProgress,
    ) -> None:
        """Write the report, and a run for each model into MLflow."""
        # Imported here: matplotlib takes a second, and a run that finds nothing served needs none.
        from greenroom.monitoring.report import Entry, render
        from greenroom.monitoring.report_figures import draw

        entries = [Entry(one, draw(one, self._trend.of(one))) for one in run.findings]
        fresh = report.with_name(f"{report.name}.part")
        try:
            report.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(render(entries), encoding="utf-8")
            fresh.replace(report)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink()
            raise MonitoringError(f"{report} cannot be written: {error.strerror}") from error
        run.report = report
        if self._runs is None:
            return
        for entry, conclusion in zip(entries, run.conclusions, strict=True):
            one = entry.findings
            on_progress(f"writing to MLflow: {one.model}", None)
            files = {f"figures/{figure.name}.svg": figure.svg for figure in entry.figures}
            files["report.html"] = render([entry]).encode()
            try:
                run.addresses[one.model] = self._runs.record(
                    one, conclusion, {**_params(one), **params[one.model]}, files
                )
            except GreenroomError as error:
                run.notes.append(
                    f"{one.model}: what was found is not in MLflow, but in the report ({error})"
                )


def _params(findings: Findings) -> dict[str, str]:
    """Return what was compared with what, for MLflow."""
    told = {
        "app": findings.app,
        "model": findings.model,
        "version": findings.version,
        "digest": findings.digest,
        "source": findings.source,
        "since": findings.since or "",
        "until": findings.until or "",
        "n_rows": str(findings.n_rows),
    }
    if findings.drift is not None:
        told["n_reference"] = str(findings.drift.n_reference)
    return {name: value for name, value in told.items() if value}


def _text(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
