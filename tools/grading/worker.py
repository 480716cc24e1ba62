"""The process that runs cells, started twice for each submission: once for its own cells, once for the tests.

It is a script: it imports nothing of ours but `plain`, which stands beside it. Messages come on standard input and go
out on standard output, as 8 bytes of length and JSON. The submission's code can reach all that is here; it gains
nothing by that, since what it says is only ever taken as its answer.
"""

import base64
import builtins
import contextlib
import io
import json
import os
import resource
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import plain  # noqa: E402
import torch  # noqa: E402
from IPython.core.displayhook import DisplayHook  # noqa: E402
from IPython.core.displaypub import DisplayPublisher  # noqa: E402
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from traitlets import Type  # noqa: E402
from traitlets.config import Config  # noqa: E402

del sys.path[0]

MAX_TEXT = 100_000  # characters that a cell may print
MAX_SHOWN = 2_000_000  # characters of figures
PASSED_ON = ("ValueError", "TypeError", "IndexError", "KeyError", "ZeroDivisionError", "NotImplementedError")


class CellTimeout(BaseException):
    """The time of a cell or of a call is over; not an Exception, so that `except Exception` does not hold it."""


class Channel:
    """Messages to and from the grader."""

    def __init__(self):
        self.source, self.target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):  # what a program prints must not come between the messages
            os.dup2(nothing, number)

    def receive(self) -> dict:
        size = int.from_bytes(self.source.read(8))
        if not size:  # the grader has gone
            os._exit(0)
        return json.loads(self.source.read(size))

    def send(self, message: dict) -> None:
        data = json.dumps(message).encode()
        self.target.write(len(data).to_bytes(8) + data)
        self.target.flush()


class Outputs(list):
    """What a cell shows, with an end to it."""

    left = MAX_TEXT
    left_shown = MAX_SHOWN

    def text(self, name: str, text: str) -> None:
        if len(text) > self.left:
            text = text[: self.left] + ("\n... the rest of the output is left out ...\n" if self.left else "")
            self.left = 0
        self.left = max(self.left - len(text), 0)
        if text and self and self[-1].get("name") == name:
            self[-1]["text"] += text
        elif text:
            self.append({"kind": "stream", "name": name, "text": text})

    def show(self, data: dict) -> None:
        kept = {kind: data[kind] for kind in ("text/plain", "image/png") if kind in data}
        if isinstance(kept.get("image/png"), bytes):
            kept["image/png"] = base64.b64encode(kept["image/png"]).decode()
        self.left_shown -= sum(map(len, kept.values()))
        if self.left_shown > 0:
            self.append({"kind": "display", "data": kept})


class Stream(io.TextIOBase):
    """sys.stdout or sys.stderr of the cells."""

    def __init__(self, name: str, shell: "Shell"):
        self.name, self.shell = name, shell

    def write(self, text: str) -> int:
        self.shell.outputs.text(self.name, text)
        return len(text)

    def writable(self) -> bool:
        return True


class Publisher(DisplayPublisher):
    """display(...)."""

    def publish(self, data, metadata=None, **options) -> None:
        self.shell.outputs.show(data)


class Hook(DisplayHook):
    """The value of a cell's last line."""

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict, md_dict=None) -> None:
        self.shell.outputs.show(format_dict)

    def finish_displayhook(self) -> None:
        pass


class Shell(InteractiveShell):
    """IPython, so that magics and figures work, which keeps what it shows."""

    outputs = Outputs()
    display_pub_class = Type(Publisher)
    displayhook_class = Type(Hook)

    def init_io(self) -> None:
        sys.stdout, sys.stderr = Stream("stdout", self), Stream("stderr", self)

    def _showtraceback(self, etype, evalue, stb) -> None:
        lines = stb.splitlines() if isinstance(stb, str) else stb
        self.outputs.append(_error(etype.__name__, str(evalue), lines))

    def enable_gui(self, gui=None) -> None:
        """Nothing: there is no window, and `%matplotlib inline` asks for none."""


def _error(name: str, text: str, lines: list[str]) -> dict:
    return {"kind": "error", "ename": name, "evalue": text[:2000], "traceback": [line[:5000] for line in lines[:100]]}


@contextlib.contextmanager
def time_limit(seconds: float):
    """Stop what runs after some seconds, and again each second, should it not stop."""

    def stop(number, frame):
        raise CellTimeout(f"stopped after {seconds:g} seconds")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run(shell: Shell, source: str, seconds: float) -> dict:
    """Run a cell; answers whether it came to its end, and what it showed."""
    shell.outputs = Outputs()
    with time_limit(seconds):
        result = shell.run_cell(source, store_history=True)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    late = isinstance(result.error_in_exec, CellTimeout)
    return {"ok": result.success, "late": late, "outputs": list(shell.outputs)}


def call(shell: Shell, name: str, args: Any, gradient: bool, seconds: float) -> dict:
    """Call a function of the submission; answers its plain value, or what went wrong."""
    shell.outputs = Outputs()  # what it prints belongs to no cell
    try:
        with time_limit(seconds):
            args, keywords = plain.decode(args)
            function = shell.user_ns.get(name)
            if function is None:
                return {"error": ["NameError", f"{name} is not defined"]}
            value = _value_and_grad(function, *args) if gradient else function(*args, **keywords)
            return {"value": plain.encode(value)}
    except CellTimeout as error:
        return {"error": ["RuntimeError", f"{name} was {error}"], "late": True}
    except plain.NotPlain as error:
        return {"error": ["RuntimeError", f"{name} returned {error}"]}
    except BaseException as error:  # a submission may raise anything, SystemExit too
        kind = next((base.__name__ for base in type(error).__mro__ if base.__name__ in PASSED_ON), "RuntimeError")
        return {"error": [kind, f"{name} raised {traceback.format_exception_only(error)[-1].strip()[:2000]}"]}


def _value_and_grad(function, first: torch.Tensor, *rest) -> tuple[torch.Tensor, torch.Tensor]:
    first = first.detach().clone().requires_grad_()
    value = function(first, *rest)
    (gradient,) = torch.autograd.grad(value, first)
    return value.detach(), gradient


class Remote:
    """In the judge's process: a function of the submission, called in the submission's process."""

    def __init__(self, name: str, channel: Channel):
        self.name, self.channel = name, channel

    def __call__(self, *args, **keywords) -> Any:
        return self.ask((args, keywords), gradient=False)

    def ask(self, args: tuple, gradient: bool) -> Any:
        self.channel.send({"ask": self.name, "args": plain.encode(args), "gradient": gradient})
        match self.channel.receive():
            case {"error": [str(kind), str(text)]}:
                raise (getattr(builtins, kind) if kind in PASSED_ON else RuntimeError)(text[:3000])
            case {"value": value}:
                try:
                    return plain.decode(value)
                except Exception as error:
                    raise RuntimeError(f"{self.name} sent {error}") from None
        raise RuntimeError(f"{self.name} sent what is no answer")


def bind(shell: Shell, channel: Channel, names: list[str], seed: int) -> dict:
    """Give the tests their names: the functions of the submission, and the hidden seed."""

    def value_and_grad(function: Remote, first: torch.Tensor, *rest) -> Any:
        return function.ask(((first, *rest), {}), gradient=True)

    warnings.simplefilter("ignore")  # nbgrader gives 0 to a test that writes to stderr
    shell.user_ns |= {name: Remote(name, channel) for name in names}
    shell.user_ns |= {"value_and_grad": value_and_grad, "hidden_seed": seed}
    return {"ok": True}


def limit(memory: int) -> None:
    """Limits that this process and its children cannot lift again."""
    limits = {"DATA": memory, "FSIZE": 2**28, "CORE": 0, "NOFILE": 512, "NPROC": 4096}
    for name, most in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def main() -> None:
    """Serve the grader until it goes."""
    channel = Channel()
    limit(int(sys.argv[1]))
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = Shell.instance(config=config)
    channel.send({"ok": True})
    while True:
        message = channel.receive()
        do, number = message.pop("do"), message.pop("number", None)
        if do == "bind":
            answer = bind(shell, channel, **message)
        else:
            answer = (run if do == "run" else call)(shell, **message)
        channel.send(answer | {"number": number})


if __name__ == "__main__":
    main()
