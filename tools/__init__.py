"""Programs that only a checkout needs: benches, conformance, mutations of what tests guard, pages written from code."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
