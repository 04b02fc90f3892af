"""Garbage collection, scrubbing, repair, inspection and backup."""
