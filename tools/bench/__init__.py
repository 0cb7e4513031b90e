"""Benches: the figures that the design promises, each measured beside a peer in the same run."""
