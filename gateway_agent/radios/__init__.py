"""The broadcast media of the PN GW: each medium by itself, and all of them together (CPNS-GKM-71)."""
