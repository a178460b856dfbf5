"""What takes its process with it. The tests behind it run in a new one."""

import ctypes
import os


def test_before_the_crash():
    pass


def test_segfault():
    ctypes.string_at(0)


def test_between_two_crashes():
    pass


def test_leaves_without_a_word():
    os._exit(0)


def test_after_the_crash():
    pass
