"""Where the figures in the README come from. Not part of the package."""
