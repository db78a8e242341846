"""Text tables."""

from jaxnet.core.tables import table


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [["layer", "bytes"], ["dense", "1,024"], ["a longer name", "4"]]
    assert table(rows).splitlines() == [
        "layer          bytes",
        "dense          1,024",
        "a longer name      4",
    ]


def test_a_table_of_one_column():
    assert table([["a"], ["bc"]]) == "a \nbc"
