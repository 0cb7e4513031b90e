"""Octets thrown at every parser."""
