def test_rows_go(shop):
    shop.execute("insert into fruit values ('apple')")
    shop.commit()


def test_empty_again(shop):
    shop.execute("insert into fruit values ('apple')")
    assert shop.execute("select count(*) from fruit").fetchone() == (1,)
    print("database", shop.info.dbname)
