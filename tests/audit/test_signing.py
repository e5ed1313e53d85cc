"""A key that could leak is refused; an envelope vouches for every byte of its statement."""

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from stages import audit, keygen, release
from stages.core import params
from stages.lineage import findings, signing
from stages.lineage.errors import KeyRefused
from stages.schema.signing import Signing
from tests.toys import bundle as toy
from tests.toys.audited_build import KEY, flip, ship

STATEMENT = {"_type": "x", "subject": [{"name": "a", "digest": {"sha256": "0" * 64}}]}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    place = tmp_path / "repository"
    place.mkdir()
    subprocess.run(["git", "init", "--quiet", str(place)], check=True)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def key(repository, tmp_path, monkeypatch):
    path = tmp_path / "key.pem"
    public = signing.generate(path, "ed25519")
    monkeypatch.setenv(signing.VARIABLE, str(path))
    return path, public


def opened(public, statement=STATEMENT):
    return signing.open_sealed(signing.seal(statement, signing.load(public)[1]))


@pytest.mark.parametrize("kind", signing.KINDS)
def test_what_one_half_signs_the_other_verifies(kind, repository, tmp_path, monkeypatch):
    public = signing.generate(tmp_path / "key.pem", kind)
    monkeypatch.setenv(signing.VARIABLE, str(tmp_path / "key.pem"))
    statement, envelope = opened(public)
    assert statement == STATEMENT
    assert signing.check(envelope, public) == ""
    assert params.parse(Signing, {"public_key": public}, "signing").public_key == public


def test_another_key_and_no_key_are_told_apart(key, tmp_path):
    other = signing.generate(tmp_path / "other.pem", "ed25519")
    assert "not by key" in signing.check(opened(key[1])[1], other)
    unsigned = signing.open_sealed(signing.seal(STATEMENT, None))[1]
    assert signing.check(unsigned, other).startswith("signed by nobody")


def test_a_statement_under_anothers_signature_does_not_verify(key):
    _, envelope = opened(key[1])
    _, other = signing.open_sealed(signing.seal({**STATEMENT, "_type": "y"}, None))
    assert "does not verify" in signing.check({**other, "signatures": envelope["signatures"]}, key[1])


def test_an_envelope_written_in_any_other_way_is_refused(key):
    content = signing.seal(STATEMENT, None)
    with pytest.raises(ValueError, match="not written as a release writes it"):
        signing.open_sealed(content.replace(b'"signatures": []', b'"signatures":  []'))
    with pytest.raises(ValueError, match="not an envelope of type"):
        signing.open_sealed(signing.canonical({**json.loads(content), "payloadType": "text/plain"}))
    with pytest.raises(ValueError, match="no DSSE envelope"):
        signing.open_sealed(b"{}")


def test_a_new_key_is_its_owners_alone_and_never_overwritten(key):
    assert stat.S_IMODE(key[0].stat().st_mode) == 0o600
    with pytest.raises(KeyRefused, match="exists"):
        signing.generate(key[0], "ed25519")


def test_a_key_inside_the_repository_is_refused_and_not_written(repository):
    with pytest.raises(KeyRefused, match="lies inside"):
        signing.generate(repository / "key.pem", "ed25519")
    assert not (repository / "key.pem").exists()


def test_a_key_inside_a_shared_cache_is_refused(key, repository, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    (repository / ".dvc").mkdir()
    (repository / ".dvc/config").write_text(f"[cache]\n    dir = {cache}\n", encoding="utf-8")
    inside = cache / "key.pem"
    inside.write_bytes(key[0].read_bytes())
    monkeypatch.setenv(signing.VARIABLE, str(inside))
    with pytest.raises(KeyRefused, match="lies inside '.*cache'"):
        signing.load(key[1])


def test_a_key_that_others_can_read_is_refused(key):
    key[0].chmod(0o640)
    with pytest.raises(KeyRefused, match="can be read by others; next: chmod 600"):
        signing.load(key[1])


def test_a_key_whose_other_half_conf_does_not_name_is_refused(key, tmp_path):
    other = signing.generate(tmp_path / "other.pem", "ed25519")
    with pytest.raises(KeyRefused, match=f"compose with `signing.public_key={key[1]}`"):
        signing.load(other)


def test_conf_that_asks_for_signatures_never_ships_without(key, monkeypatch):
    monkeypatch.delenv(signing.VARIABLE)
    with pytest.raises(KeyRefused, match="asks for signatures and TINSMITH_SIGNING_KEY names no key"):
        signing.load(key[1])
    nothing = {"variants": {}, "signing": {"public_key": None}, **toy.SETTINGS}
    assert params.parse(release.Params, nothing, "").signing.public_key is None


def test_a_file_that_is_no_key_is_one_line(key):
    key[0].write_text("secret", encoding="utf-8")
    with pytest.raises(KeyRefused, match="cannot read the signing key"):
        signing.load(key[1])


def test_keygen_prints_the_public_half_only(repository, tmp_path, capsys):
    assert keygen.main([str(tmp_path / "release.pem")]) == 0
    said = capsys.readouterr().out
    assert "signing.public_key=302a" in said
    secret = (tmp_path / "release.pem").read_text(encoding="utf-8").splitlines()[1]
    assert secret not in said
    assert keygen.main([str(repository / "release.pem")]) == 1
    assert "lies inside" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("model_signing"), reason="OpenSSF's model_signing is not installed")
def test_an_ecdsa_key_also_gives_the_model_signature_that_openssfs_tool_verifies(workspace, tmp_path, monkeypatch):
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    public = signing.generate(tmp_path / "key.pem", "ecdsa")
    monkeypatch.setenv(signing.VARIABLE, str(tmp_path / "key.pem"))
    ship(public)
    bundle, pem = Path("build/release") / KEY, tmp_path / "public.pem"
    key = load_der_public_key(bytes.fromhex(public))
    pem.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = ["model_signing", "verify", "key", str(bundle), "--signature", str(bundle / "model.sig")]
    command += ["--ignore-paths", str(bundle / "SHA256SUMS"), "--public_key", str(pem)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert findings.findings(audit.audit(str(bundle), public, offline=True, again=False)) == []
    flip(bundle / "model.onnx")
    assert subprocess.run(command, capture_output=True).returncode != 0
