from stochdeconv.statistics.drawing import drawn_by_key


def test_images_are_drawn_by_their_names_alone():
    keys = [f"{number}.png" for number in range(30)]
    drawn = {keys[row] for row in drawn_by_key(keys, 7)}
    assert len(drawn) == 7
    backwards = keys[::-1]
    rows = drawn_by_key(backwards, 7)
    assert {backwards[row] for row in rows} == drawn
    assert list(rows) == sorted(rows)
    assert list(drawn_by_key(keys, 30)) == list(range(30))
