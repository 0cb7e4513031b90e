"""The ports for Linux, on which the same agent runs under CPython: for tests, benches and PNEs on larger machines."""
