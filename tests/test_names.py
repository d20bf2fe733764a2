from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from ofa_tvm.errors import UsageError
from ofa_tvm.names import ClassNames, PlainName, check_plain, nearest
from ofa_tvm.printable import printable
from ofa_tvm.schema_errors import first_fault


class Named(BaseModel):
    name: PlainName = "x"
    class_names: ClassNames = ("a", "b")


@pytest.mark.parametrize("name", ["../up", "/etc", "a/b", "", ".", "..", ".hidden", "a\nb", "a b", "x" * 101])
def test_a_name_that_is_no_plain_one_is_refused(name):
    with pytest.raises(ValidationError):
        Named(name=name)
    with pytest.raises(UsageError, match=r"--name .* is no name: use ") as refused:
        check_plain(name, "--name")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["characters", "my-net_1.0", "w1.2+x", "größe"])
def test_plain_names(name):
    assert Named(name=name).name == name
    check_plain(name, "--name")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a", "a"), "'a' names two classes"),
        (("a", ""), "a class name is empty"),
        (("a", " "), "a class name is empty"),
        (("a\nb",), "'a\\nb' holds"),
        (("\x1b[31mred",), "'\\x1b[31mred' holds"),
        (("‮abc",), "holds"),
    ],
)
def test_class_names_that_no_terminal_should_see_are_refused(names, told):
    with pytest.raises(ValidationError) as refused:
        Named(class_names=names)
    assert told in first_fault(refused.value)


def test_the_first_fault_names_key_and_value():
    with pytest.raises(ValidationError) as refused:
        Named.model_validate({"name": "../up"})
    assert first_fault(refused.value).startswith("name: '../up' is no name: use at most 100 letters")
    with pytest.raises(ValidationError) as refused:
        Named.model_validate({"name": 5})
    assert first_fault(refused.value) == "name: Input should be a valid string, not 5"
    with pytest.raises(ValidationError) as refused:
        Named.model_validate_json("{")
    assert ": " in first_fault(refused.value)


def test_the_nearest_known_word():
    assert nearest("rasp5", ["rasp4", "local"]) == ", did you mean 'rasp4'?"
    assert nearest("xyz", ["rasp4", "local"]) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 猫 →\n\tx", "größe 猫 →\n\tx"),
        ("a\u00a0b", "a\u00a0b"),
        ("\x1b[31mred\x07\r", r"\x1b[31mred\x07\r"),
        ("\u202egnp.exe\x9b2J\u2028", r"\u202egnp.exe\x9b2J\u2028"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text, shown):
    assert printable(text) == shown


def test_an_unknown_key_is_spelled_out():
    class Strict(BaseModel, extra="forbid"):
        pass

    with pytest.raises(ValidationError) as caught:
        Strict.model_validate({"\x1b[2J": 1})
    assert first_fault(caught.value).startswith(r"\x1b[2J: Extra inputs")
