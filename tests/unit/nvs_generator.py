"""Images of an NVS partition by ESP-IDF's own generator, which knows nothing of our code."""

import contextlib
import csv
import io
from types import SimpleNamespace

from esp_idf_nvs_partition_gen import nvs_partition_gen

BINARY = "hex2bin"


def image(folder, rows, size):
    """Return an image of `size` octets with `rows`: (key, encoding, value) in order, and (name,) for a namespace."""
    table, made = folder / "nvs.csv", folder / "nvs.bin"
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "type", "encoding", "value"])
        for key, *rest in rows:
            encoding, value = rest or ("", "")
            kind = "data" if rest else "namespace"
            writer.writerow([key, kind, encoding, value.hex() if encoding == BINARY else value])
    told = SimpleNamespace(input=str(table), output=str(made), size=hex(size), version=2, outdir=str(folder))
    with contextlib.redirect_stdout(io.StringIO()):
        nvs_partition_gen.generate(told)
    return made.read_bytes()
