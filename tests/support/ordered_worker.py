"""A worker that does nothing until it is told how to end: python ordered_worker.py FOLDER.

It leaves as the real one does: signals, exit codes and the note are the real ones'. In FOLDER the
file NAME says that it is ready, with its process id and its variables; NAME.order tells it how to
end; NAME.left is written when it leaves because it was asked to.
"""

import json
import os
import sys
import threading
from pathlib import Path

from search.worker.contract import Left, worker_name
from search.worker.stop import depart, stop_on_signals


def main(folder: Path) -> int:
    stop = threading.Event()
    stop_on_signals(stop)
    ready = folder / worker_name()
    print(f"{ready.name} is ready", flush=True)
    half = ready.with_suffix(".half")
    half.write_text(json.dumps({"pid": os.getpid(), "variables": dict(os.environ)}))
    half.rename(ready)
    order = folder / f"{ready.name}.order"
    while not stop.wait(0.05):
        if order.exists():
            return leave(order.read_text())
    (folder / f"{ready.name}.left").touch()
    return depart(Left.ASKED)


def leave(order: str) -> int:
    if order == "crash":
        sys.exit("a line of the crash")
    left = Left[order]
    if left is Left.REFUSED:
        print("error: the data differ", flush=True)
        return depart(left, "the data differ")
    return depart(left)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
