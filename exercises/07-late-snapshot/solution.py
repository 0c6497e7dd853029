"""Exercise 7, solved: which snapshots come too late?"""


def counted(arrivals: list[int], delay: int) -> list[int]:
    found = []
    for batch, snapshot in enumerate(arrivals):
        # A batch begins with a watermark made of all batches before it, and drops by the one
        # with which the previous batch began: that knows neither this batch nor the previous one.
        known = arrivals[: max(batch - 1, 0)]
        watermark = max(known, default=0) - delay
        if snapshot > watermark:
            found.append(snapshot)
    return found
