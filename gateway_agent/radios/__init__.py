"""Where broadcasts go out: each medium by itself, and all of them at once (CPNS-GKM-71)."""
