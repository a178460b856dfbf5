import subprocess
import sys

from shop.two import discount


def test_discount():
    assert discount(2, 1) == 0


def test_in_a_child():
    subprocess.run([sys.executable, "-m", "shop.child"], check=True)
