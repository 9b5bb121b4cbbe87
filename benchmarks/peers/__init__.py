"""What Greenroom is measured against, where it is not a program of its own."""
