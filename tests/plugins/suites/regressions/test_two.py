def test_data(data_regression):
    data_regression.check({"apple": 1, "pear": 2})


def test_file(file_regression):
    file_regression.check("a text\n")
