"""Crisper's registry: imports images, keeps them encrypted, and serves single-use pulls."""
