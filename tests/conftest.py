"""Puts this folder on the path, so that tests of every room can import what stands in it."""

import signal

# A test run that a shell has put in the background ignores Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
