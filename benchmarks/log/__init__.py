"""What keeping every prediction costs: the same server with its log and without, and one note."""
