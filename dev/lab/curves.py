"""curves.py: the loss of a run over tokens, FLOPs and seconds, as its validations saw it.

Between two validations the loss is interpolated linearly; outside of what ran it is None ("?" in a table), never extrapolated. A loss curve is convex, so
between two validations the line lies above it: a run that is cut there looks worse than it is, the less so the denser its validations are.
"""
from record import LabError, Point, finite

AXES = ("tokens", "flops", "seconds")


class Curve:
    def __init__(self, run):
        points = [Point._make(p) for p in run.curve]
        name = f"{run.arm}, seed {run.seed}"
        for a, b in zip(points, points[1:]):
            if not all(getattr(a, x) < getattr(b, x) for x in ("step",) + AXES):
                raise LabError(f"{name}: the validation of step {b.step} is not behind that of step {a.step} in steps, tokens, flops and seconds")
        ends = next((i for i, p in enumerate(points) if not finite(p.loss)), len(points))
        if ends == 0:
            raise LabError(f"{name}: no validation" + (" with a finite loss" if points else ""))
        self.points = points[:ends]        # up to where it diverged
        self.diverged = ends < len(points)
        self.loss = self.points[-1].loss   # the last one

    def end(self, axis):
        """What the run spent."""
        return getattr(self.points[-1], axis)

    def at(self, axis, budget):
        """The loss after this much; None outside of what ran."""
        x = [getattr(p, axis) for p in self.points]
        if not x[0] <= budget <= x[-1]:
            return None
        for i, here in enumerate(x):
            if here == budget:
                return self.points[i].loss
            if here > budget:
                return between(budget, x[i - 1], here, self.points[i - 1].loss, self.points[i].loss)

    def cost(self, axis, loss):
        """What it took to reach this loss and stay there: a lucky dip is no arrival. None if it did not, or if it is not known how early."""
        points = self.points
        last_above = max((i for i, p in enumerate(points) if p.loss > loss), default=None)
        if last_above is None or last_above == len(points) - 1:
            return None
        a, b = points[last_above], points[last_above + 1]
        return between(loss, a.loss, b.loss, getattr(a, axis), getattr(b, axis))


def between(x, x0, x1, y0, y1):
    """On the line through (x0, y0) and (x1, y1); its ends exactly."""
    w = (x - x0) / (x1 - x0)
    return y0 * (1 - w) + y1 * w


def multiplier(base, variant, axis):
    """How much less the variant took to the loss that both reached: 1.07 is "1.07x fewer FLOPs". Whoever arrives before the end of its schedule would have
    been quicker by a schedule of its own: a winner's multiplier is a lower bound."""
    loss = max(base.loss, variant.loss)
    b, v = base.cost(axis, loss), variant.cost(axis, loss)
    return b / v if b is not None and v else None
