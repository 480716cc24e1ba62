"""nbgrader's execution of a notebook, in two processes: the submission's cells in one, the tests in the other.

In one kernel no check can be trusted: the submission can change what the check is made of. Here the tests run in a
process that never sees the submission's code. Where a test calls a function of the submission, the arguments go to the
submission's process, and plain data come back (see plain.py).
"""

import json
import time
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import Execute
from nbgrader.utils import is_grade, is_locked
from traitlets import Bool, Integer

from grading.box import Box, BoxBroken, Limits

START_SECONDS = 120  # for Python and torch to be there
MAX_RESTARTS = 6
MAX_OUTPUTS, MAX_CHARACTERS = 100, 4_000_000  # of one cell
MAX_TEXT, MAX_PICTURES = 1_000_000, 10_000_000  # characters that all cells of a submission may show in the feedback
TIME_IS_OVER = "The time of the whole notebook is over."


class Session:
    """A submission's process and its judge's, for one notebook.

    Args:
        names: the functions that the submission is to define.
        isolated: whether in bubblewrap.
        limits: time and memory.
        seed: the hidden seed, which the tests read as `hidden_seed`.
    """

    def __init__(self, names: list[str], isolated: bool, limits: Limits, seed: int):
        self.names, self.isolated, self.limits, self.seed = names, isolated, limits, seed
        self.end = time.monotonic() + limits.total_seconds
        self.shared: list[str] = []  # cells that both processes have run
        self.done: list[str] = []  # cells of the submission that came to their end, to run them again after a crash
        self.stuck: dict[str, str] = {}  # functions that are not called again, and why
        self.restarts = 0
        self.left = {"text": MAX_TEXT, "pictures": MAX_PICTURES}
        self.student, self.judge = Box(isolated, limits), Box(isolated, limits)
        try:
            for box in (self.student, self.judge):
                box.receive(START_SECONDS)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End both processes."""
        for box in (self.student, self.judge):
            box.close()

    def run_student(self, source: str) -> list[NotebookNode]:
        """Run a cell of the submission; what it shows."""
        if time.monotonic() >= self.end:
            return [_error(f"{TIME_IS_OVER} This cell was not run.")]
        try:
            answer = self.student.ask(self._run(source), self._seconds())
        except BoxBroken as broken:
            self._restart()
            return [_error(str(broken))]
        if not answer.get("late"):
            self.done.append(source)
        return self._within_budget(outputs_of(answer.get("outputs")))

    def _within_budget(self, outputs: list[NotebookNode]) -> list[NotebookNode]:
        """The outputs that the feedback page has still room for; the first cell with too much says so."""
        kept = []
        for output in outputs:
            kind = "pictures" if output.output_type == "display_data" and "image/png" in output.data else "text"
            left = self.left[kind]
            self.left[kind] = max(left - len(str(output)), 0)
            if self.left[kind]:
                kept.append(output)
            elif left:
                kept.append(new_output("stream", name="stdout", text=f"... no more {kind} of this notebook ...\n"))
        return kept

    def run_both(self, source: str) -> list[NotebookNode]:
        """Run a cell of ours that prepares: the submission needs it, and so do the tests."""
        self.shared.append(source)
        self._judge(source)
        self._bind()
        return self.run_student(source)

    def run_judge(self, source: str) -> list[NotebookNode]:
        """Run a test; what it shows, with an error if it failed."""
        try:
            answer = self._judge(source)
        except BoxBroken as broken:
            self._reopen_judge()
            return [_error(f"The test did not come to its end. {broken}")]
        outputs = [output for output in outputs_of(answer.get("outputs")) if output.output_type != "display_data"]
        if answer.get("ok") is not True and not any(output.output_type == "error" for output in outputs):
            outputs.append(_error("The test did not come to its end."))
        return outputs

    def _judge(self, source: str) -> dict:
        """Run a cell in the judge's process and serve its calls."""
        seconds = self.limits.total_seconds + START_SECONDS  # the calls are limited, and the rest is ours
        self.judge.send(_dump({"do": "run", "source": source, "seconds": seconds}), seconds)
        while True:
            answer = self.judge.parse(self.judge.receive(seconds))
            if "ask" not in answer:
                return answer
            self.judge.send(self._call(answer["ask"], answer["args"], answer["gradient"]), seconds)

    def _call(self, name: str, args: Any, gradient: bool) -> bytes:
        """Call a function of the submission; the bytes of its answer."""
        if name in self.stuck:
            return _dump({"error": ["RuntimeError", self.stuck[name]]})
        if time.monotonic() >= self.end:
            return _dump({"error": ["RuntimeError", TIME_IS_OVER]})
        seconds = self._seconds()
        try:
            request = {"do": "call", "name": name, "args": args, "gradient": gradient, "seconds": seconds}
            answer = self.student.ask(request, seconds)
            if answer.get("late"):
                self.stuck[name] = f"{name} was stopped before, after {seconds:g} seconds, and is not called again."
        except BoxBroken as broken:
            self.stuck[name] = f"{name} was called. {broken} It is not called again."
            self._restart()
            return _dump({"error": ["RuntimeError", self.stuck[name]]})
        return _dump({key: answer[key] for key in ("value", "error") if key in answer})

    def _run(self, source: str) -> dict:
        return {"do": "run", "source": source, "seconds": self._seconds()}

    def _seconds(self) -> float:
        """Time for the next cell or call."""
        return min(self.limits.cell_seconds, max(self.end - time.monotonic(), 0.1))

    def _restart(self) -> None:
        """A fresh process for the submission, with the cells run again that had come to their end."""
        self.student.close()
        self.restarts += 1
        if self.restarts > MAX_RESTARTS or time.monotonic() > self.end:
            return
        self.student = Box(self.isolated, self.limits)
        try:
            self.student.receive(START_SECONDS)
            for source in self.done:
                if time.monotonic() >= self.end:
                    return
                self.student.ask(self._run(source), self._seconds())
        except BoxBroken:
            self.restarts = MAX_RESTARTS  # the cells that ended once do not end now: no more tries

    def _reopen_judge(self) -> None:
        self.judge.close()
        self.judge = Box(self.isolated, self.limits)
        self.judge.receive(START_SECONDS)
        for source in self.shared:
            self.judge.ask(self._run(source), START_SECONDS)
        self._bind()

    def _bind(self) -> None:
        """Put the submission's functions in the place of what the cell that prepares has defined."""
        self.judge.ask({"do": "bind", "names": self.names, "seed": self.seed}, START_SECONDS)


class JudgedExecute(Execute):
    """Executes a notebook that `collect.rebuild` made; takes the place of nbgrader's Execute."""

    isolated = Bool(True).tag(config=True)
    hidden_seed = Integer(None, allow_none=True).tag(config=True)  # one for each problem set
    cell_seconds = Integer(120).tag(config=True)
    total_seconds = Integer(600).tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: dict, km: Any = None) -> tuple[NotebookNode, dict]:
        """Fill in the outputs of all cells. A test that was not run holds an error, which is worth 0."""
        cells = [cell for cell in nb.cells if cell.cell_type == "code"]
        why = nb.metadata.homework.refused
        for cell in cells:
            cell.outputs = [_error(why or "This test was not run.")] if is_grade(cell) else []
        if not why:
            self._execute(cells, nb.metadata.homework.names)
        return nb, resources

    def _execute(self, cells: list[NotebookNode], names: list[str]) -> None:
        limits = Limits(self.cell_seconds, self.total_seconds)
        session = Session(names, self.isolated, limits, self.hidden_seed)
        try:
            for number, cell in enumerate(cells, start=1):
                run = (
                    session.run_judge
                    if is_grade(cell)
                    else session.run_both
                    if is_locked(cell)
                    else session.run_student
                )
                cell.outputs, cell.execution_count = run(cell.source), number
        finally:
            session.close()


def outputs_of(found: Any) -> list[NotebookNode]:
    """What a process says that its cell showed, as outputs of a notebook: texts and PNG pictures, in bounded number."""
    outputs, left = [], MAX_CHARACTERS
    for item in found[:MAX_OUTPUTS] if type(found) is list else []:
        output = _output(item) if type(item) is dict else None
        left -= len(str(output))
        if output and left > 0:
            outputs.append(output)
    return outputs


def _output(item: dict) -> NotebookNode | None:
    match item:
        case {"kind": "stream", "text": str(text)}:
            # As stdout, since nbgrader gives 0 to a test that wrote to stderr.
            return new_output("stream", name="stdout", text=_clean(text))
        case {"kind": "error", "ename": str(name), "evalue": str(text), "traceback": list(lines)}:
            return new_output(
                "error", ename=_clean(name), evalue=_clean(text), traceback=[_clean(str(x)) for x in lines]
            )
        case {"kind": "display", "data": dict(data)}:
            kept = {kind: _clean(data[kind]) for kind in ("text/plain", "image/png") if type(data.get(kind)) is str}
            # Not an execute_result, whose number nbgrader would take for points.
            return new_output("display_data", data=kept)
    return None


def _clean(text: str) -> str:
    """The text without half characters, which no file can hold."""
    return text.encode("utf-8", "replace").decode()


def _error(text: str) -> NotebookNode:
    return new_output("error", ename="Homework", evalue=text, traceback=[text])


def _dump(message: dict) -> bytes:
    return json.dumps(message).encode()
