def price(fruit):
    if fruit == "apple":
        return 1
    if fruit == "pear":
        return 2
    raise KeyError(fruit)


def discount(price, rate=0):
    if rate:
        price -= price * rate
    return price
