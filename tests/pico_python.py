"""A Python for tests that start many scripts: one process loads the libraries, and every script is run in a
fork of it.

What a script does is real; only the seconds are saved in which each would import torch and transformers.
"""

import gc
import json
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
CLIENT = """import json, os, socket, sys
name, *arguments = sys.argv[1:]
link = socket.socket(socket.AF_UNIX)
link.connect("\\0" + name)
socket.send_fds(link, [b"-"], [0, 1, 2])
link.sendall(json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode())
link.shutdown(socket.SHUT_WR)
sys.exit(int(link.recv(8) or 70))
"""


@contextmanager
def quick_python(folder: Path, **environment: str) -> Iterator[Path]:
    """The program ``folder/python``, which runs scripts in a fork and hands everything else to the real
    Python.

    ``environment`` holds what libraries read when they are imported; each script gets its own on top.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "client.py").write_text(CLIENT)
    real, name = shlex.quote(sys.executable), f"kvdistill {folder} {os.getpid()}"[-100:]
    client = f"{real} -I -S {shlex.quote(str(folder))}/client.py {shlex.quote(name)}"
    program = folder / "python"
    program.write_text(
        f'#!/bin/sh\ncase $1 in\n  *.py) exec {client} "$@" ;;\n  *) exec {real} "$@" ;;\nesac\n'
    )
    program.chmod(0o755)
    chosen = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"} | environment
    server = subprocess.Popen([sys.executable, __file__, name], env=chosen, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n", (
            "the Python of the tests did not start; what it wrote stands above"
        )
        yield program
    finally:
        server.kill()
        server.communicate()


def serve(name: str) -> NoReturn:
    """Run what clients ask for, each in a fork, until killed."""
    for used in ("run.train", "commands.assets.hub", "reporting.studies.experiment_report"):
        import_module(f"kvdistill.{used}")
    gc.freeze()  # or every fork's first collection would copy all that was loaded
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"\0{name}")
        door.listen()
        print("ready", flush=True)
        while True:
            link, _ = door.accept()
            if os.fork() == 0:
                door.close()
                answer(link)
            link.close()


def answer(link: socket.socket) -> NoReturn:
    """Be the script that the client asks for, then tell it the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, descriptors, _, _ = socket.recv_fds(link, 1, 3)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    with link.makefile("rb") as request:
        arguments, folder, environment = json.loads(request.read())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    link.sendall(str(code).encode())
    os._exit(0)


def run(arguments: list[str]) -> Any:
    """The exit code of a script."""
    sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # as Python itself ends
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
