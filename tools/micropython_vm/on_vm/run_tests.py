# Runs inside the VM: import one test module, call its test functions one after the other, tell the outcome.
# Lines on standard output: "PASS name", "FAIL name" followed by the traceback, at the end "DONE n".
import gc
import sys

module = __import__(sys.argv[1])
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
