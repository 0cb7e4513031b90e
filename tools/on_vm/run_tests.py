# Runs inside the VM. Its arguments are the ROMFS images of the portable packages and of a test, and the test's module
# name. It calls the test functions of the module in order and prints their outcomes.
# Lines on standard output: "PASS name", "FAIL name" followed by the traceback, at the end "DONE n".
import gc
import sys

import rom

_, packages, test, name = sys.argv
rom.mount(packages, "/rom")
rom.mount(test, "/test")
sys.path[:] = ["/rom", "/test", ".frozen"]
module = __import__(name)
names = sorted(name for name in dir(module) if name.startswith("test_"))
for name in names:
    gc.collect()
    try:
        getattr(module, name)()
    except Exception as error:  # noqa: BLE001 - reported, and the next one runs
        print("FAIL", name)
        sys.print_exception(error)
    else:
        print("PASS", name)
print("DONE", len(names))
