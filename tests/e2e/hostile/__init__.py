"""Attacks on a real server, each beside an honest client."""
