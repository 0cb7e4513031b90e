# Runs inside the VM after power_on. It loads the agent as a board does and prints the octets of heap that are then in
# use, less those of the modules that stand in for hardware.
import gc

for name in ("air", "esp32", "machine", "network", "socket"):
    __import__(name)
gc.collect()
before = gc.mem_alloc()
__import__("board")
gc.collect()
print(gc.mem_alloc() - before)
