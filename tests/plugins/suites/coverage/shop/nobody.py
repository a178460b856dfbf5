def never_called():
    return 1
