"""Looking back: where a prediction came from, making it again, how good it turned out to be."""
