"""Train and promote the model: ``greenroom train`` under the name that the documentation gives."""

import sys
from pathlib import Path

from greenroom.cli import main

if __name__ == "__main__":
    main(["train", str(Path(__file__).resolve().parents[1]), *sys.argv[1:]])
