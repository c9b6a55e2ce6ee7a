from flowgen.cli.config_tree import ConfigTree


def write(folder, name, text):
    file = folder / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_groups_are_found_through_defaults_of_choices(tmp_path):
    write(
        tmp_path, "train", "defaults:\n- objective: fm\n- optional override /out@a.b: x\n- _self_"
    )
    write(tmp_path, "objective/fm", "defaults:\n- time: uniform\n- /path: trig\n- _self_\n")
    write(tmp_path, "objective/time/uniform", "a: 1")
    write(tmp_path, "path/trig", "a: 1")
    write(tmp_path, "out/x", "a: 1")
    write(tmp_path, "other/x", "a: 1")
    write(tmp_path, "hydra/help/x", "a: 1")
    tree = ConfigTree((tmp_path,))
    assert list(tree.groups()) == ["objective", "objective/time", "other", "out", "path"]
    assert list(tree.groups_of("train")) == ["objective", "objective/time", "out", "path"]
    assert tree.draws("train", "objective")
    assert not tree.draws("train", "path")


def test_first_folder_hides_the_same_file_of_later_ones(tmp_path):
    write(tmp_path / "a", "g/x", "# from a\nv: 1")
    write(tmp_path / "b", "g/x", "# from b\nv: 2")
    write(tmp_path / "b", "g/y", "v: 3\n# too late")
    tree = ConfigTree((tmp_path / "a", tmp_path / "b"))
    assert tree.groups() == {"g": ["x", "y"]}
    assert tree.load("g/x") == {"v": 1}
    assert tree.describe("g/x") == "from a"
    assert tree.describe("g/y") == ""
    assert tree.describe("g/none") == ""
    assert tree.load("g/none") == {}
