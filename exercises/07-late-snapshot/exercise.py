"""Exercise 7: which snapshots come too late?"""


def counted(arrivals: list[int], delay: int) -> list[int]:
    """The snapshots that Spark counts, in the order in which they arrive.

    `arrivals` are all snapshots (`last_updated`, in seconds), each in a batch of its own; `delay`
    is that of the watermark, in seconds.
    """
    found = []
    newest = 0
    for snapshot in arrivals:
        newest = max(newest, snapshot)
        watermark = newest - delay
        if snapshot >= watermark:
            found.append(snapshot)
    return found
