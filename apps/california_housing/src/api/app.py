"""Serve what is in Production: ``greenroom serve`` under the documented name."""

import sys
from pathlib import Path

from greenroom.cli import main

if __name__ == "__main__":
    main(["serve", str(Path(__file__).resolve().parents[2]), *sys.argv[1:]])
