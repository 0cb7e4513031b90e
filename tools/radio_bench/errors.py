"""The faults of the radio bench that are not faults of the product."""


class NoBench(Exception):
    """The bench cannot be had on this machine or at this moment. The text is the reason, with the next step."""
