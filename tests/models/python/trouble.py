"""Copies `x` to `y`, unless the first value of a row asks for trouble."""

import ctypes
import mmap
import os
import sys
import time

import numpy as np
from salver import InvalidInput

RAISE, REFUSE, EXIT, KILLED, HANG, PRINT, SCRIBBLE, FORK, EAT, SEGFAULT, SHORT, WRONG, CHILD, BABBLE = range(1, 15)


class Trouble:
    inputs = {"x": ("FP32", [-1, 2])}
    outputs = {"y": ("FP32", [-1, 2])}

    def predict(self, batch):
        x = batch["x"].copy()  # so that what is scribbled does not reach those who share the batch
        for wish in x[:, 0]:
            if wish < 0:
                self.make(int(-wish), x)
        if (x[:, 0] == -SHORT).any():
            return {"y": x[:0]}
        if (x[:, 0] == -WRONG).any():
            return {"y": np.array(["a"])}
        return {"y": x}

    def make(self, wish, x):
        if wish == RAISE:
            raise RuntimeError("asked to")
        if wish == REFUSE:
            raise InvalidInput("x must not be -2")
        if wish == EXIT:
            sys.exit(3)
        if wish == KILLED:
            os.kill(os.getpid(), 9)
        if wish == HANG:
            while True:
                time.sleep(60)
        if wish == PRINT:
            for _ in range(2000):
                print("\x1b[31mgarbage" * 50)
            os.write(1, bytes(range(256)) * 100)
        if wish == SCRIBBLE:
            self.scribble()
        if wish == FORK and os.fork() == 0:
            return
        if wish == EAT:
            self.held = bytearray(1 << 30)
            for at in range(0, len(self.held), mmap.PAGESIZE):
                self.held[at] = 1
        if wish == SEGFAULT:
            ctypes.string_at(0)
        if wish == CHILD and os.fork() == 0:
            while True:
                time.sleep(60)
        if wish == BABBLE:
            main = sys.modules["__main__"]
            main.SOCKET.send(b"\x03" + b"\xff" * 100)

    def scribble(self):
        """Fills all shared memory with nonsense, and tries to make it shorter."""
        for name in os.listdir("/proc/self/fd"):
            try:
                if "memfd" in os.readlink(f"/proc/self/fd/{name}"):
                    os.ftruncate(int(name), 0)
            except OSError:
                pass
        memory = sys.modules["__main__"].__dict__
        for value in list(memory.values()):
            if isinstance(value, mmap.mmap):
                value[:] = b"\xff" * len(value)
        import gc

        for value in gc.get_objects():
            if isinstance(value, mmap.mmap):
                value[:] = b"\xff" * len(value)
