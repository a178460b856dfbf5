import unittest


def test_all_pass(subtests):
    for number in range(3):
        with subtests.test(number=number):
            assert number < 3


def test_one_fails(subtests):
    for number in range(3):
        with subtests.test("a message", number=number):
            assert number != 1


class TestOld(unittest.TestCase):
    def test_parts(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, 2)

    def test_behind(self):
        pass
