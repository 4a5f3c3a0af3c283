"""torchrun with its options, without its tracebacks: what the processes print themselves is all that a user
has to read.

    python -m kvdistill.training.launch --standalone --nproc_per_node 8 experiments/train_with_kv.py --resume

A signal is handed to the processes, which save a checkpoint and end; the exit code is theirs.
"""

import logging
import sys
from collections.abc import Sequence

PATIENCE = 110
"""Seconds that the processes have to save a checkpoint; SLURM's scripts are told two minutes before the end
of their time.
"""
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGUSR1"


def main(words: Sequence[str]) -> int:
    """Start the processes and return their exit code, or 128 + n where signal n has ended them."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    options = run.parse_args(list(words))
    options.shutdown_timeout = PATIENCE
    options.signals_to_handle = SIGNALS
    logging.disable(logging.CRITICAL)  # torch gives its loggers levels of their own
    try:
        run.run(options)
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        killed = [128 - code for code in codes if code < 0]  # such as 137: killed for its memory
        return killed[0] if killed else max(codes)
    finally:
        logging.disable(logging.NOTSET)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
