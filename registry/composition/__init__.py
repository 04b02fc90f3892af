"""The composition root: the only modules that choose adapters. One `compose_` function builds each role."""
