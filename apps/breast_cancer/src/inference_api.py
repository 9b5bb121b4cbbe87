"""Serve the latest version: ``greenroom serve`` under the name that the documentation gives."""

import sys
from pathlib import Path

from greenroom.cli import main

if __name__ == "__main__":
    main(["serve", str(Path(__file__).resolve().parents[1]), *sys.argv[1:]])
