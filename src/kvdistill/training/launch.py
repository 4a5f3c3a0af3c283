"""torchrun without its tracebacks: the error messages of the processes are the only ones printed.

Takes torchrun's options::

    python -m kvdistill.training.launch --standalone --nproc_per_node 8 experiments/train_with_kv.py --resume

A signal is forwarded to the processes, which save a checkpoint and exit; their exit code is returned.
"""

import logging
import sys
from collections.abc import Sequence

PATIENCE = 110
"""Seconds that the processes have to save a checkpoint; SLURM signals jobs two minutes before their limit."""
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGUSR1"


def main(words: Sequence[str]) -> int:
    """Start the processes and wait for them.

    Args:
        words: Arguments of torchrun, then the script and its arguments.

    Returns:
        Exit code of the processes, or 128 + n where signal n has ended them.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    options = run.parse_args(list(words))
    options.shutdown_timeout = PATIENCE
    options.signals_to_handle = SIGNALS
    logging.disable(logging.CRITICAL)  # setting levels has no effect: torch sets its own
    try:
        run.run(options)
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        # A negative code is a signal: 137, say, where the kernel killed a process for lack of memory.
        killed = [128 - code for code in codes if code < 0]
        if killed:
            return killed[0]
        return max(codes)
    finally:
        logging.disable(logging.NOTSET)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
