"""What is made once and kept: files and folders of the cache that carry the digest of all that they were made of."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tools.radio_bench.errors import NoBench

STEP_S = 600
"""Seconds after which a step is given up, such as a download that does not go on."""


def layer(folder: Path, name: str, inputs: Iterable[str | bytes], make: Callable[[Path], None]) -> Path:
    """Return the file or folder `name-DIGEST` in `folder`. If it is not there, `make` makes it at the path it is given.

    The digest is that of `inputs`. Layers of the same name that were made of other inputs are removed.
    """
    path = folder / f"{name}-{digest(inputs)}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{name}-*"):
            remove(old)
        half = folder / f"{name}-half"
        remove(half)  # of a run that was cut short
        make(half)
        half.rename(path)
    return path


def digest(inputs: Iterable[str | bytes]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 over `inputs`, whose lengths count too."""
    of_all = hashlib.sha256()
    for each in inputs:
        octets = each.encode() if isinstance(each, str) else each
        of_all.update(len(octets).to_bytes(8, "big") + octets)
    return of_all.hexdigest()[:16]


def run(words: Sequence[str | Path], octets: bytes | None = None) -> bytes:
    """Run a program of the host; return what it printed. Raises NoBench with the end of its complaints if it fails."""
    try:
        done = subprocess.run(words, input=octets, capture_output=True, check=True, timeout=STEP_S)
    except FileNotFoundError as error:
        raise NoBench(f"The program {error.filename} is not here.") from None
    except subprocess.TimeoutExpired:
        raise NoBench(f"{Path(words[0]).name} did not end within {STEP_S} s.") from None
    except subprocess.CalledProcessError as error:
        last = "\n".join(error.stderr.decode(errors="replace").strip().splitlines()[-5:])
        raise NoBench(f"{Path(words[0]).name} failed: {last}") from None
    return done.stdout


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
