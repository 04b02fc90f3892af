"""Collection, scrubbing, inspection and backup."""
