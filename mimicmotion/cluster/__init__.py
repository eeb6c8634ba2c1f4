"""The items of a run on the GPUs of one machine or many: Ray workers take them one at a time.

run        a whole run: Ray begun, workers hired, items done, Ray ended
pool       the driver's loop: who does what, attempts, time limits; knows nothing of Ray
preparers  workers on processors that prepare what comes next, for whoever does it
queue      items and slots: whom an item goes to, and when a slot's machine is to blame and not its items
performer  what runs in a worker's process
ray_actors  Ray itself: connecting, actors, their answers and deaths in words
telling    a bar and a line per worker on a terminal, lines in the log elsewhere

What counts as done, attempts and time limits are decided here: Ray's own retries would run an item that kills its
process again and again. Nothing here knows how an item is done: a worker gets a function that makes its work.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "performer": ["Answer", "Work"],
        "pool": ["WorkerLost"],
        "run": ["run_on_workers"],
    },
)
