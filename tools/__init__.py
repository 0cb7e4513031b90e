"""Programs that only a checkout needs: benches, conformance, mutation tests, and pages that are written from code."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
