"""MIKEY-SAKKE: ECCSI signatures (RFC 6507), SAKKE encapsulation (RFC 6508), MIKEY messages, 3GPP key parameters.

Pure values and mathematics, no I/O, no clock, no randomness of its own. The decoding side also runs on MicroPython.
"""
