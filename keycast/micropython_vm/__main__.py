"""`python -m keycast.micropython_vm` finds or fetches the VM and prints its version."""

import sys

from keycast.micropython_vm import vm

try:
    found = vm.ensure()
except vm.NoVm as error:
    sys.exit(str(error))
print(f"MicroPython {'.'.join(map(str, found.version))}, {found.bits}-bit: {found.argv[-1]}")
