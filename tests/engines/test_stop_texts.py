from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sundog.engines.stop_texts import StopScanner

STOPS = st.lists(st.text("ab", max_size=4), max_size=3)


@given(text=st.text("ab", max_size=20), stops=STOPS, sizes=st.lists(st.integers(0, 4), min_size=21, max_size=21))
def test_pieces_cut_as_the_whole_is_cut(text: str, stops: list[str], sizes: list[int]) -> None:
    scanner, out, rest, is_stopped = StopScanner(stops), "", text, False
    for position, size in enumerate(sizes):
        is_last = position == len(sizes) - 1
        piece, rest = (rest, "") if is_last else (rest[:size], rest[size:])
        given_out, is_stopped = scanner.feed(piece, is_last=is_last)
        out += given_out
        if is_stopped:
            break
    cuts = [text.index(stop) for stop in stops if stop and stop in text]
    # A later piece may complete a stop that begins before one already found: the first one completed counts.
    ends = [text.index(stop) + len(stop) for stop in stops if stop and stop in text]
    assert is_stopped == bool(cuts)
    if not cuts:
        assert out == text
    else:
        assert out in {text[:cut] for cut in cuts}
        assert not any(stop in out for stop in stops if stop)
        assert len(out) <= min(ends)


def test_nothing_that_may_begin_a_stop_goes_out() -> None:
    scanner = StopScanner(["</end>"])
    assert scanner.feed("text </e", is_last=False) == ("text ", False)
    assert scanner.feed("m> </en", is_last=False) == ("</em> ", False)
    assert scanner.feed("d> more", is_last=False) == ("", True)
