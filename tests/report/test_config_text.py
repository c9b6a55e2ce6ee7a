from flowgen.report.config_text import config_lines, setting

TEXT = """\
# A comment
name: 'two words'
trainer:
  max_steps: 400   # of them
  precision: null
parts:
- kind: a
  size: 2
- kind: b
shape: [1, 8]
text: "a: b"
trainer2:
  max_steps: 5
odd "line: without end
"""


def test_every_line_knows_its_dotted_key():
    paths = [line.path for line in config_lines(TEXT)]
    assert "trainer.max_steps" in paths
    assert paths.count("parts.kind") == 2
    assert "parts.size" in paths
    assert "trainer2.max_steps" in paths
    assert "shape" in paths


def test_settings_are_plain():
    lines = config_lines(TEXT)
    assert setting(lines, "trainer.max_steps") == "400"
    assert setting(lines, "name") == "two words"
    assert setting(lines, "text") == "a: b"
    assert setting(lines, "trainer.precision") is None
    assert setting(lines, "trainer") is None
    assert setting(lines, "nothing") is None


def test_nothing_is_lost():
    for text in (TEXT, "\tweird\n: :\n- - a: 1\n", "just words"):
        for line, raw in zip(config_lines(text), text.splitlines(), strict=True):
            shown = f"{line.dash}{line.key}{':' if line.key else ''}{line.value}"
            assert shown.replace(" ", "") == raw.strip().replace(" ", "")


def test_it_agrees_with_a_yaml_parser():
    import yaml

    content = {"a": {"b": {"c": 1, "d": "x"}, "e": [{"f": 2}, {"f": 3}]}, "g": 1.5}
    lines = config_lines(yaml.safe_dump(content))
    assert setting(lines, "a.b.c") == "1"
    assert setting(lines, "a.b.d") == "x"
    assert setting(lines, "g") == "1.5"
