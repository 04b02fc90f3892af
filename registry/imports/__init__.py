"""Imports of customers' images: planning, transfer and storage."""
