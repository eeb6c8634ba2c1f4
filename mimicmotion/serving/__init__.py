"""A world model played in a browser: keys are held as in a game, frames come by socket.

run         what the command does: listen, load, warm up, print a link, end cleanly
app         the application: the page, page.html and its files, and the routes of the rest
transfers   files of a session, fetched and sent
windows     one open socket: what is heard and obeyed
guard       who may speak to the server, and how much: names, origins, the token, rates
protocol    what page and server say to each other
connection  one socket's way out: frames by credit
visitors    who plays, who watches, who waits for the turn, whose session has ended
stage       blocks made in the model's thread and shown at the session's pace
held        held keys and mouse movement -> the actions of a block
session     one visitor's way: state, log, the states to go back to
pictures    first pictures that are offered or sent
tape        a recording with its record and the session's log

In short: serve_world(config) serves until it is interrupted; Server(generator, config, listener) does so in a thread.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "protocol": ["read_frame_message"],
        "run": ["Server", "listening", "serve_world"],
    },
)
