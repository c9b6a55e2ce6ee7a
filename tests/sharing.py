"""Several processes that evaluate together, as threads of one."""

import threading

from flowgen.evaluation import Shards


def together(work, count=3):
    """Run ``work(shards)`` in threads that exchange values, as processes do; results by rank."""
    barrier = threading.Barrier(count)
    slots, results = [None] * count, [None] * count

    def run(rank):
        def gather(value):
            slots[rank] = value
            barrier.wait(60)
            found = list(slots)
            barrier.wait(60)
            return found

        try:
            results[rank] = work(Shards(rank, count, gather))
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
