from inline_snapshot import snapshot


def test_new():
    assert 1 + 1 == snapshot()


def test_wrong():
    assert "new" == snapshot("old")


def test_right():
    assert [1] == snapshot([1])
