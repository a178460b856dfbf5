def test_data(data, tmp_path):
    assert data == {"price": 1}
    (tmp_path / "own.txt").write_text("")
    assert [path.name for path in tmp_path.iterdir()] == ["own.txt"]
