"""Importing: plan the image, transfer it, store it."""
