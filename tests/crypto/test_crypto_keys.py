"""Key files and pseudonyms."""

import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftl.crypto import KeyStore, pseudonym, pseudonyms
from ftl.errors import CipherError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_drawn_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    key = store.key("scoring")
    assert len(key) == 32
    assert KeyStore(tmp_path / "keys").key("scoring") == key
    assert store.key("other") != key
    assert (mode(tmp_path / "keys"), mode(tmp_path / "keys" / "scoring")) == (0o700, 0o600)
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["other", "scoring"]


def test_sixteen_threads_that_ask_at_once_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        keys = set(threads.map(lambda _: KeyStore(tmp_path / "k").key("scoring"), range(64)))
    assert len(keys) == 1


def test_a_key_that_others_may_read_is_refused_with_the_command_that_repairs_it(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.key("scoring")
    (tmp_path / "scoring").chmod(0o640)
    with pytest.raises(CipherError, match=r"may be read by others \(mode 0640\)\. Run: chmod 600"):
        store.key("scoring")


def test_a_damaged_key_is_refused_not_replaced(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.keep("scoring", b"short")
    with pytest.raises(CipherError, match="holds 5 bytes; a key has 32"):
        store.key("scoring")


def test_a_kept_secret_is_not_overwritten_by_another(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.keep("shared", b"a" * 32)
    store.keep("shared", b"a" * 32)
    with pytest.raises(CipherError, match="already holds another secret"):
        store.keep("shared", b"b" * 32)
    assert store.read("shared") == b"a" * 32


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    with pytest.raises(CipherError, match=r"key .*/scoring cannot be read: No such file"):
        KeyStore(tmp_path).read("scoring")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 101])
def test_a_name_that_leaves_the_folder_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(CipherError, match="cannot name a key"):
        KeyStore(tmp_path).key(name)


def test_a_pseudonym_is_the_hmac_of_the_text_and_the_list_version_agrees() -> None:
    key = bytes(range(32))
    expected = hmac.new(key, "王小明|138".encode(), hashlib.sha256).digest()
    assert pseudonym(key, "王小明|138") == expected
    assert pseudonyms(key, ["王小明|138", ""]) == [expected, pseudonym(key, "")]
    assert pseudonym(bytes(32), "王小明|138") != expected


def test_a_short_key_and_a_broken_text_are_refused_without_showing_them() -> None:
    with pytest.raises(CipherError, match="has 31 bytes; it needs 32"):
        pseudonym(bytes(31), "x")
    with pytest.raises(CipherError, match="not Unicode") as caught:
        pseudonym(bytes(32), "secret-\ud800")
    assert "secret" not in str(caught.value)
