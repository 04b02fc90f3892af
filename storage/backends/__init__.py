"""Where objects lie."""
