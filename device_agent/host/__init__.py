"""The ports for Linux: the same agent under CPython, for tests, benches and PNEs that are no microcontroller."""
