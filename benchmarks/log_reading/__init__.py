"""How long it takes to read a day of a large prediction log."""
