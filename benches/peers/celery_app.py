"""The model behind Celery and Redis, as tuned as both allow without losing a task.

As a program it submits tasks: celery_app.py COUNT PROCESSES
"""

import json
import os
import sys
from multiprocessing import Process

import numpy as np
from celery import Celery
from celery.signals import worker_process_init

app = Celery("celery_app", broker=os.environ["PEER_BROKER"], backend=os.environ["PEER_RESULTS"])
app.conf.update(
    # A task is let go of when it has ended, not when it was taken.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # Many small tasks: each process has the next ones at hand.
    worker_prefetch_multiplier=64,
    # What costs time and is not asked for.
    task_send_sent_event=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    task_track_started=False,
    worker_redirect_stdouts=False,
    task_compression=None,
    broker_connection_retry_on_startup=True,
)

session = None


@worker_process_init.connect
def load(**_):
    global session
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])


@app.task(name="predict")
def predict(rows):
    return session.run(None, {"X": np.asarray(rows, dtype=np.float32)})[0].tolist()


def submit(rows, count):
    for _ in range(count):
        predict.delay(rows)


if __name__ == "__main__":
    count, processes = map(int, sys.argv[1:])
    rows = json.loads(os.environ["PEER_ROWS"])
    others = [Process(target=submit, args=(rows, count // processes)) for _ in range(processes)]
    for process in others:
        process.start()
    for process in others:
        process.join()
    sys.exit(any(process.exitcode for process in others))
