"""The ways to the CPNS Server: one module for each kind, which `by_kind` lists."""
