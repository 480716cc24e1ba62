"""FrontExplorer: what two scores cost each other, point by point, from a record or from live runs."""

from collections.abc import Mapping, Sequence

import numpy as np

from mtl_course.errors import CourseError, refuse_unknown
from mtl_course.widgets.base import Array, Viewer, module, strip

COLORS, MARKERS = ("#0072b2", "#d55e00", "#009e73", "#8c00ff", "#cc79a7"), "o^sDPX"  # as in js/common.js
OPTIONAL = {"weights": {}, "x_error": None, "y_error": None, "group": "points", "runs": ()}


class FrontExplorer(Viewer):
    """A chart of two scores: choose a point by mouse, arrow keys or slider, and read what it is and what beats it.

    The front joins the points that no other beats: none is at least as good in both scores and better in one. Groups
    can be hidden; the front is that of the points shown. Points with weights are joined in the order of the first one's
    share, and have a slider.

    Args:
        points: dicts with "label", "x" and "y" (numbers, or intervals as `records.mean_interval` gives them); and, if
            wanted, "weights" (a dict by task), "x_error" and "y_error" (half widths), "group" (a name;
            groups differ in marker and colour), and "runs" (the pairs (x, y) of single seeds, drawn as dots).
        x, y: name and unit of the scores, such as "gain in depth (%)".
        better: "higher" or "lower", for x and for y.
        pictures: one a point, uint8 (H, W, 3), all of one size, shown beside the chart.
        interval: what the half widths are.
        title: what the viewer shows, for those who do not see it.
        chosen: the point at first.

    Raises:
        CourseError: if a point lacks a number or has a wrong one, or the pictures do not fit.

    Example:
        >>> points = [{"label": f"w = {w}", "x": w, "y": 1 - w**2, "weights": {"masks": w, "depth": 1 - w},
        ...            "group": "fixed weights"} for w in (0.2, 0.5, 0.8)]
        >>> points += [{"label": "PCGrad", "x": 0.5, "y": 0.6, "x_error": 0.1, "y_error": 0.1, "group": "rules"}]
        >>> masks = [np.zeros((64, 64, 3), np.uint8) for _ in points]  # such as plotting.overlay(image, mask, task)
        >>> viewer = FrontExplorer(points, x="mIoU (no unit)", y="depth error (m)", better=("higher", "lower"),
        ...                        pictures=masks)
    """

    _esm = module("front.js")

    def __init__(self, points: Sequence[Mapping], *, x: str, y: str, better: tuple[str, str] = ("higher", "higher"),
                 pictures: Sequence[Array] | None = None, interval: str = "95 % interval",
                 title: str = "Two scores, and what they cost each other", chosen: int = 0):  # fmt: skip
        if chosen not in range(len(points)):
            raise CourseError(f"chosen is the number of a point, from 0 to {len(points) - 1}, not {chosen!r}")
        if len(better) != 2 or not set(better) <= {"higher", "lower"}:
            raise CourseError(f"better is 'higher' or 'lower', for x and for y, not {better!r}")
        sent = [_point(number, one) for number, one in enumerate(points)]
        groups = list(dict.fromkeys(one["group"] for one in sent))
        swept = sorted((one["share"], number) for number, one in enumerate(sent) if one["share"] is not None)
        data = {"points": sent, "groups": groups, "sweep": [number for _, number in swept]}
        data |= {"x": x, "y": y, "higher": [way == "higher" for way in better], "interval": interval, "title": title}
        data |= _pictures(sent, pictures)
        switches = {"shown": [True] * len(groups), "intervals": False, "labels": False}
        super().__init__(data=data, settings={"chosen": int(chosen)} | switches)

    def frames(self) -> list[tuple[Array, str]]:
        """The chart; then the pictures of up to three points of the front."""
        points, size = self.data["points"], (self.data["height"], self.data["width"], 3)
        best = [number for number, is_best in enumerate(front(points, self.data["higher"])) if is_best]
        labels = ", ".join(points[number]["label"] for number in best)
        frames = [(_chart(self.data, best), f"{self.data['title']}. The front: {labels}.")]
        if size[0]:
            for number in dict.fromkeys(best[k] for k in (0, len(best) // 2, -1)):
                picture = np.frombuffer(points[number]["picture"], np.uint8).reshape(size)
                told = f"{self.data['title']}. The picture of {points[number]['label']}."
                frames.append((strip([picture], 256), told))
        return frames


def front(points: Sequence[Mapping], higher: Sequence[bool]) -> Array:
    """Which points no other beats, that is, is at least as good in both scores and better in one; bool (N,).

    Args:
        points: N dicts with numbers "x" and "y".
        higher: whether higher is better, for x and for y.
    """
    good = np.array([(one["x"], one["y"]) for one in points]) * np.where(higher, 1, -1)
    as_good = (good[:, None] >= good).all(-1)  # row against column
    return ~(as_good & (good[:, None] > good).any(-1)).any(0)


def _point(number: int, one: Mapping) -> dict:
    """A point as it is sent; `share` is that of the first weight."""
    where = f"point {number}"
    for axis in {"x", "y"} & set(one):
        if isinstance(one[axis], Mapping):
            one = {**one, axis: one[axis].get("mean"), f"{axis}_error": one[axis].get("half_width")}
    refuse_unknown(f"key of {where}", one, ["label", "x", "y", *OPTIONAL])
    point, texts = OPTIONAL | one, {name: str(one.get(name, "points")) for name in ("label", "group")}
    shares, errors = [*point["weights"].values()], [point[a] for a in ("x_error", "y_error") if point[a] is not None]
    try:
        runs = np.array([*point["runs"]] or np.zeros((0, 2)), float)
        numbers = np.array([one.get("x", np.nan), one.get("y", np.nan), *shares, *errors, *runs.flat], float)
    except (TypeError, ValueError):  # texts
        numbers = np.array([np.nan])
    if "label" not in one or not np.isfinite(numbers).all() or min([0, *shares, *errors]) < 0 or runs.shape[1:] != (2,):
        raise CourseError(f"{where} needs a label, finite x and y, errors and weights from 0, runs (x, y): {dict(one)}")
    point["weights"] = ", ".join(f"{name} {value:.3g}" for name, value in point["weights"].items())
    point["share"] = float(shares[0] / (sum(shares) or 1)) if shares else None
    floats = {name: float(point[name]) for name in ("x", "y", "x_error", "y_error") if point[name] is not None}
    return point | texts | floats | {"runs": runs.tolist()}


def _pictures(points: Sequence[dict], pictures: Sequence[Array] | None) -> dict[str, int]:
    """Lay the pictures into their points; gives their size, 0 where there are none."""
    if pictures is None:
        return {"height": 0, "width": 0}
    found = [np.asarray(picture) for picture in pictures]
    kinds = {(str(picture.dtype), picture.shape) for picture in found}
    if len(found) != len(points) or len(kinds) != 1 or found[0].dtype != np.uint8 or found[0].shape[2:] != (3,):
        raise CourseError(f"expected are {len(points)} pictures uint8 (H, W, 3) of one size, not {len(found)}: {kinds}")
    for point, picture in zip(points, found):
        point["picture"] = picture.tobytes()
    return {"height": found[0].shape[0], "width": found[0].shape[1]}


def _chart(data: Mapping, best: Sequence[int]) -> Array:
    """The chart for where no front end loads, uint8 (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plain = lambda text: text.replace("$", r"\$")  # noqa: E731 (no mathematics in names)
    fig = Figure(figsize=(6.4, 4.2), dpi=80, layout="tight")
    ax, points, at = fig.subplots(), data["points"], np.array([(one["x"], one["y"]) for one in data["points"]])
    ax.plot(*at[data["sweep"]].T, color="0.6", lw=1)
    ax.plot(*at[sorted(best, key=lambda k: at[k, 0])].T, "--", color="#1a1a1a", label="front")
    for number, name in enumerate(data["groups"]):
        ids, color = [k for k, one in enumerate(points) if one["group"] == name], COLORS[number % len(COLORS)]
        dy, dx = ([points[k][key] or 0 for k in ids] for key in ("y_error", "x_error"))
        ax.errorbar(*at[ids].T, dy, dx, MARKERS[number % 6], elinewidth=0.4, color=color, label=plain(name))
    for number in best:
        ax.annotate(plain(points[number]["label"]), at[number], (5, 4), textcoords="offset points", fontsize=8)
    names = [f"{data[a]}; {'higher' if way else 'lower'} is better" for a, way in zip("xy", data["higher"])]
    ax.set(xlabel=plain(names[0]), ylabel=plain(names[1]))
    ax.legend(fontsize=8)
    FigureCanvasAgg(fig).draw()
    return np.asarray(fig.canvas.buffer_rgba())[..., :3].copy()
