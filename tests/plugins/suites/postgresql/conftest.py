from pytest_postgresql import factories


def create(**connection):
    import psycopg

    with psycopg.connect(**connection) as database:
        database.execute("create table fruit (name text primary key)")


noproc = factories.postgresql_noproc(load=[create])
shop = factories.postgresql("noproc")
