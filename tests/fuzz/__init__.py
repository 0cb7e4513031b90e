"""Fuzzing: octets thrown at every parser."""
