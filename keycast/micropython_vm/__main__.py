"""`python -m keycast.micropython_vm` finds or fetches the VM and prints its version.

An argument names another one, as the variable KEYCAST_MICROPYTHON does: `python -m keycast.micropython_vm sid/amd64`.
"""

import sys

from keycast.micropython_vm import vm

try:
    found = vm.ensure(wanted=sys.argv[1] if sys.argv[1:] else None)
except vm.NoVm as error:
    sys.exit(str(error))
print(f"MicroPython {'.'.join(map(str, found.version))}, {found.bits}-bit: {found.argv[-1]}")
