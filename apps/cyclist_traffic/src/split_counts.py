"""Make the files that the DVC pointers in ``data/`` stand for, from ``data/counts.parquet``.

``reference_data`` is up to May 2021, ``current_data`` what came after, ``test_sample`` a thousand
rows of the former. The files go where DVC looks for them, into ``dvc_store/``, and the pointers are
written beside the data: afterwards ``dvc pull data/reference_data.csv.dvc`` brings the file.

``python src/split_counts.py`` is needed only when the counts have changed.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).resolve().parents[1]
CURRENT_FROM = "2021-06-01"
SAMPLE_ROWS = 1_000
SEED = 42


def files(counts: pd.DataFrame) -> dict[str, tuple[str, bytes]]:
    """Return by the pointer's name the file that it points to, and what that holds."""
    reference = counts[counts["date"] < CURRENT_FROM]
    current = counts[counts["date"] >= CURRENT_FROM]
    drawn = np.random.default_rng(SEED).choice(len(reference), SAMPLE_ROWS, replace=False)
    sample = reference.iloc[np.sort(drawn)].to_csv(index=False, lineterminator="\n")
    return {
        "reference_data.csv.dvc": ("reference_data.parquet", _parquet(reference)),
        "current_data.csv.dvc": ("current_data.parquet", _parquet(current)),
        "test_sample.csv.dvc": ("test_sample.csv", sample.encode()),
    }


def main() -> None:
    """Write the store and the pointers."""
    counts = pd.read_parquet(FOLDER / "data" / "counts.parquet")
    for pointer, (name, content) in files(counts).items():
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        place = FOLDER / "dvc_store" / "files" / "md5" / md5[:2] / md5[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        text = f"outs:\n- md5: {md5}\n  size: {len(content)}\n  hash: md5\n  path: {name}\n"
        (FOLDER / "data" / pointer).write_text(text, encoding="utf-8")


def _parquet(rows: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    rows.reset_index(drop=True).to_parquet(
        file, compression="brotli", compression_level=11, index=False, row_group_size=len(rows)
    )
    return file.getvalue()


if __name__ == "__main__":
    main()
