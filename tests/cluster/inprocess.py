"""Workers in the process of the test: all that passes to one and back is pickled, as it is between processes."""

import pickle

from mimicmotion.cluster.performer import Performer


class InProcess:
    """Does what it is asked for when it is asked; see `pool.Actors`."""

    made: list["InProcess"] = []  # noqa: RUF012 - reset by whoever uses it

    def __init__(self, ray, settings, device):
        self.workers, self.preparers, self.asked, self._answers = 0, 0, [], {}
        self.made.append(self)

    def room(self):
        return 2

    def start(self, slot):
        self.workers += 1
        return Performer()

    def start_preparer(self, number):
        self.preparers += 1
        return Performer()

    def ask(self, worker, method, *arguments):
        ticket = len(self.asked)
        self.asked.append((method, arguments))
        answer = getattr(worker, method)(*pickle.loads(pickle.dumps(arguments)))
        self._answers[ticket] = pickle.dumps(answer)
        return ticket

    def wait(self, tickets, seconds):
        return list(tickets)

    def answer(self, ticket):
        return pickle.loads(self._answers.pop(ticket))

    def end(self, worker):
        pass

    def stages(self):
        return {}
