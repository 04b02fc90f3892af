"""Container groups: the use-cases over importing and pulling."""
