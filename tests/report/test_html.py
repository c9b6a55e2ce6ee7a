from flowgen.report.html import Markup, element, joined, section


def test_everything_plain_is_escaped():
    made = element("p", {"title": '"><script>'}, "</p><b>&", Markup("<i>ok</i>"), None)
    assert made == ('<p title="&quot;&gt;&lt;script&gt;">&lt;/p&gt;&lt;b&gt;&amp;<i>ok</i></p>')


def test_attributes():
    made = element("input", {"checked": True, "hidden": False, "value": None, "min": 0})
    assert made == '<input checked min="0">'


def test_markup_stays_markup():
    assert isinstance(joined(["<", Markup("<b>")]), Markup)
    assert section("a", "A<", "b") == (
        '<section id="a" aria-labelledby="a-title"><h2 id="a-title">A&lt;</h2>b</section>'
    )
