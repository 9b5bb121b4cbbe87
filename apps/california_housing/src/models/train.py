"""Train and register the models: ``greenroom train`` under the documented name."""

import sys
from pathlib import Path

from greenroom.cli import main

if __name__ == "__main__":
    main(["train", str(Path(__file__).resolve().parents[2]), *sys.argv[1:]])
