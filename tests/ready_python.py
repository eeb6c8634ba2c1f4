"""A Python that has imported its libraries already; documents' commands are run in it.

Most of what a typed command takes is the import of torch, diffusers and transformers. Here each command runs in a
process of its own, forked from one that has them: its script and all of `mimicmotion` are read anew, in the folder,
with the environment, arguments, streams and import path that a fresh interpreter would have. What only a fresh one can
show (a library's submodule that nobody imports, an order of imports) is for commands that are run in one.

    python ready_python.py --serve SOCKET                        waits for commands; ends with its standard input
    python ready_python.py SOCKET script.py|-m name|-c code ...  has one run there, and ends as it does
"""

import atexit
import json
import os
import runpy
import signal
import socket
import sys
import threading
import traceback


def import_libraries() -> None:
    import cv2  # noqa: F401
    import diffusers
    import omegaconf  # noqa: F401
    import PIL.Image  # noqa: F401
    import scipy.ndimage  # noqa: F401
    import torch  # noqa: F401
    import transformers

    # Both import what is behind a name when it is asked for.
    for name in ("AutoencoderKLTemporalDecoder", "AutoencoderKLWan", "AutoencoderTiny", "EulerDiscreteScheduler",
                 "StableVideoDiffusionPipeline", "UNetSpatioTemporalConditionModel"):  # fmt: skip
        getattr(diffusers, name)
    for name in ("CLIPImageProcessorPil", "CLIPVisionModel", "CLIPVisionModelWithProjection"):
        getattr(transformers, name)


def serve(path: str) -> None:
    """Waits for commands until standard input ends, which it does with whoever started this."""
    del sys.path[0]
    import_libraries()
    # Nobody waits for the commands: they tell their exit code themselves.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _run(connection)
            connection.close()


def _end_with_parent() -> None:
    # Not sys.stdin's own read: a child would find it locked.
    while os.read(0, 1):
        pass
    os._exit(0)


def _run(connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not request.endswith(b"\n"):
        request += connection.recv(1 << 20)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    request = json.loads(request)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    code = _exit_code_of(request["arguments"])
    connection.sendall(bytes([code & 255]))
    os._exit(0)


def _exit_code_of(arguments: list[str]) -> int:
    """What a fresh interpreter with these arguments would end with."""
    code = 0
    try:
        _interpret(arguments)
    except SystemExit as end:
        code = end.code
        if code is None:
            code = 0
        elif not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _interpret(arguments: list[str]) -> None:
    kind, *rest = arguments
    if kind == "-c":
        code, *rest = rest
        sys.argv, sys.path[:0] = ["-c", *rest], [""]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv, sys.path[:0] = rest, [os.getcwd()]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:0] = arguments, [os.path.dirname(os.path.abspath(kind))]
        runpy.run_path(kind, run_name="__main__")


def run_ready(path: str, arguments: list[str]) -> int:
    """Has the server at `path` run a command with this process's folder, environment and streams; its exit code."""
    request = {"folder": os.getcwd(), "environment": dict(os.environ), "arguments": arguments}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
        answer = connection.recv(1)
    if not answer:
        sys.exit("the command's process ended without an exit code")
    return answer[0]


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
    sys.exit(run_ready(sys.argv[1], sys.argv[2:]))
