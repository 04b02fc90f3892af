"""HTTP parts that all APIs share."""
