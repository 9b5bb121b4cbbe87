"""Scorecards: what a training came to, as a block of Markdown in an app's README.

The block stands between two comments, which a reader does not see, and everything between them is
written anew by ``greenroom train --figures``. So the figures that a README shows are those of a
training, with all that it takes to come to them again. What they are computed from is
:mod:`greenroom.training.training`'s and :mod:`greenroom.training.baselines`' business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from greenroom.errors import AppError
from greenroom.training.training import Trained

N_COLUMNS: Final = 3
"""How many metrics the table of candidates shows: the gate's, then the task's first others."""


class Scorecards:
    """A file with a place for each model's figures.

    Parameters
    ----------
    path : Path
        A Markdown file.
    names : sequence of str
        The models, each of which needs a place in it.

    Attributes
    ----------
    path : Path
        The file.

    Raises
    ------
    AppError
        When the file cannot be read, or has no place for one of them; the message shows the lines
        to add.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        text = self._read()
        for name in names:
            if not _place(name).search(text):
                begin, end = _marks(name)
                raise AppError(
                    f"{path.name} has no place for the figures of {name!r}",
                    advice=f"add two lines to it: {begin} and {end}",
                )

    def write(self, trained: Trained) -> None:
        """Put a training's figures into its model's place."""
        begin, end = _marks(trained.model.name)
        block = f"{begin}\n\n{scorecard(trained)}\n\n{end}"
        text = _place(trained.model.name).sub(lambda _: block, self._read())
        try:
            self.path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise AppError(f"{self.path} cannot be written: {error.strerror}") from error

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise AppError(f"{self.path} cannot be read as text") from error


def scorecard(trained: Trained) -> str:
    """Return a training's figures as Markdown.

    Parameters
    ----------
    trained : Trained
        Of a training that took place, not one that found its version registered already.
    """
    return "\n\n".join(_parts(trained))


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- figures of {name} -->", f"<!-- end of figures of {name} -->"


def _place(name: str) -> re.Pattern[str]:
    begin, end = _marks(name)
    return re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)


def _parts(trained: Trained) -> Iterator[str]:
    model, manifest = trained.model, trained.manifest
    if manifest is None or trained.fitted is None:
        raise ValueError("nothing was trained, so there are no figures")
    data = manifest.data
    generated = " **generated data**," if data.generated else ""
    yield (
        f"`{model.name}` on `{data.name}`,{generated} {data.n_rows:,} rows, seed {model.seed}. "
        f"Mean ± standard deviation over {model.folds} folds of the {manifest.n_train:,} training "
        "rows:"
    )
    yield _candidates(trained)
    share = f"{100 * model.split.holdout:g} % of all, {_chosen_by(trained)}"
    yield (
        f"On the {manifest.n_holdout:,} held-out rows ({share}), to which this training fitted "
        f"nothing and by which it chose nothing; the version is served {_served(trained)}:"
    )
    yield _on_holdout(trained)


def _chosen_by(trained: Trained) -> str:
    split = trained.model.split
    if split.time:
        return f"the latest by `{split.time}`"
    return f"by a hash of {'`' + split.group + '`' if split.group else 'the row'}"


def _served(trained: Trained) -> str:
    compiled = trained.tags.get("greenroom.runtime") == "compiled"
    return "compiled" if compiled else "by its own estimator"


def _candidates(trained: Trained) -> str:
    model = trained.model
    others = [metric.name for metric in model.task.metrics if metric.name != model.gate.metric]
    names = [
        name
        for name in (model.gate.metric, *others)
        if any(name in score.means for score in trained.scores)
    ][:N_COLUMNS]
    chosen = trained.fitted.candidate if trained.fitted else ""
    rows = [(f"{line.name} (baseline)", line.scores) for line in trained.baselines]
    rows += [
        (f"**{score.name}** (chosen)" if score.name == chosen else score.name, score)
        for score in trained.scores
    ]
    return _table(
        ["candidate", *names],
        [
            [
                title,
                *(
                    f"{_number(score.means[name])} ± {_number(score.deviations[name])}"
                    if name in score.means
                    else "-"
                    for name in names
                ),
            ]
            for title, score in rows
        ],
    )


def _on_holdout(trained: Trained) -> str:
    if trained.fitted is None:
        return ""
    metrics = trained.fitted.metrics
    return _table(
        [
            "metric",
            *(line.name for line in trained.baselines),
            trained.fitted.candidate,
            "95 % interval",
        ],
        [
            [
                metric.name,
                *(_or_dash(line.metrics.get(metric.name)) for line in trained.baselines),
                _number(metrics[metric.name]),
                f"{_number(metrics[f'{metric.name}_low'])} to "
                f"{_number(metrics[f'{metric.name}_high'])}"
                if f"{metric.name}_low" in metrics
                else "",
            ]
            for metric in trained.model.task.metrics
            if metric.name in metrics
        ],
    )


def _or_dash(value: float | None) -> str:
    return "-" if value is None else _number(value)


def _number(value: float) -> str:
    """Write a figure with as many digits as a reader compares: 41,234 or 0.8663.

    Examples
    --------
    >>> _number(41234.56), _number(0.86634), _number(12.345)
    ('41,235', '0.8663', '12.35')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
