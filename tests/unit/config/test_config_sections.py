"""The configuration file: the example is complete, mistakes are named, secrets do not print."""

from pathlib import Path

import msgspec
import pytest

from tongshi.app.settings import gateway_config
from tongshi.config.media_node import NodeConfig, NodeSection
from tongshi.config.sections import AccountSection, Config, load, read, reveal
from tongshi.errors import InvalidRequest

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"
NODE_EXAMPLE = Path(__file__).parents[3] / "media-node.example.toml"


def test_the_example_loads_and_names_every_key() -> None:
    config = load(EXAMPLE)
    text = EXAMPLE.read_text(encoding="utf-8")
    for section in msgspec.structs.fields(Config):
        value = getattr(config, section.name)
        for part in value if isinstance(value, tuple) else (value,):
            for field in msgspec.structs.fields(part):
                assert field.encode_name in text, f"{section.name}.{field.name}"


def test_the_example_shows_the_defaults() -> None:
    config = load(EXAMPLE)
    for name in ("storage", "http", "signalling", "media", "exchange", "log"):
        assert getattr(config, name) == type(getattr(config, name))()


def test_the_example_of_a_media_node_names_every_key_with_its_default() -> None:
    config = read(NODE_EXAMPLE, NodeConfig)
    text = NODE_EXAMPLE.read_text(encoding="utf-8")
    for section in msgspec.structs.fields(NodeConfig):
        for field in msgspec.structs.fields(getattr(config, section.name)):
            assert field.encode_name in text, f"{section.name}.{field.name}"
    for name in ("media", "log"):
        assert getattr(config, name) == type(getattr(config, name))()
    node = config.node
    assert node == NodeSection(name=node.name, platform=node.platform, secret=node.secret)
    assert "***" in repr(node)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "platform = 3",
        '[platform]\nid = "310"\nname = "x"',
        '[platform]\nid = "31000000002000000001"\nname = "x"\nnaem = "y"',
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest, match=r"broken\.toml"):
        load(path)


_UPPER = """
[[neighbours]]
id = "31000000002000000001"
name = "市级"
relation = "upper"
sip_host = "192.0.2.1"
sip_port = 5061
sip_transport = "tls"
"""
_OWN = '[platform]\nid = "31010100002000000001"\nname = "x"\n'


@pytest.mark.parametrize(
    "words",
    [
        'sip_tls_ca = "city.pem"',
        f'sip_tls_fingerprint = "{":".join(["AB"] * 32)}"',
        "sip_tls_insecure = true",
        '[signalling.tls]\npeer_ca = "city.pem"',
    ],
)
def test_an_upper_by_tls_is_configured_with_what_proves_it(tmp_path: Path, words: str) -> None:
    path = tmp_path / "tls.toml"
    path.write_text(f"{_OWN}{_UPPER}{words}\n", encoding="utf-8")
    assert gateway_config(load(path)).tls is not None


@pytest.mark.parametrize(
    "words",
    [
        "",
        'sip_tls_name = "sip.example.org"',
        'sip_tls_insecure = true\nsip_tls_ca = "city.pem"',
        'sip_tls_fingerprint = "AB:CD"',
        '[signalling.tls]\ncertificate = "own.pem"',
        '[signalling.tls]\npeer_ca = "city.pem"\nclient_ca = "ca.pem"',
    ],
)
def test_an_upper_by_tls_that_nothing_proves_is_refused(tmp_path: Path, words: str) -> None:
    path = tmp_path / "tls.toml"
    path.write_text(f"{_OWN}{_UPPER}{words}\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="tls"):
        load(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[platform]\nid = "310"\nname = "x"', "有误：platform.id 不符合要求：应为 20 位数字"),
        ('[platform]\nid = "31000000002000000001"\nnaem = "y"', "有误：不认识的字段 platform.naem"),
        ('[platform]\nid = "31000000002000000001"', "有误：缺少必填项 platform.name"),
        ("x = [", "不是合法的 TOML：Invalid value（文件末尾）"),
        ("x = 1\ny 2", "（第 2 行第 3 列）"),
    ],
)
def test_a_mistake_is_told_in_chinese_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest) as refused:
        load(path)
    assert words in refused.value.message


def test_a_folder_and_another_charset_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="无法读取"):
        load(tmp_path)
    path = tmp_path / "gbk.toml"
    path.write_bytes("[platform]\nname = '黄浦'".encode("gb18030"))
    with pytest.raises(InvalidRequest, match="不是合法的 TOML"):
        load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="absent"):
        load(tmp_path / "absent.toml")


def test_secrets_do_not_print() -> None:
    account = AccountSection(prefix="31010000", secret="Gb28181@2022")
    assert "Gb28181" not in repr(account)
    assert "***" in repr(account)


def test_secrets_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s").write_text("from-file\n", encoding="utf-8")
    monkeypatch.setenv("TONGSHI_TEST_SECRET", "from-env")
    assert reveal(f"file:{tmp_path / 's'}") == "from-file"
    assert reveal("env:TONGSHI_TEST_SECRET") == "from-env"
    assert reveal("plain") == "plain"
    with pytest.raises(InvalidRequest):
        reveal("env:TONGSHI_TEST_ABSENT")


PLATFORM = '[platform]\nid = "31000000002000000001"\nname = "x"\n'
SEAT = (
    '[[media.nodes]]\nname = "east"\nsecret = "s"\nmedia_host = "192.0.2.30"\n'
    'viewer_url = "http://192.0.2.30:8081"\n'
)
OWN = '[node]\nname = "east"\nplatform = "31000000002000000001"\nsecret = "s"\n'


@pytest.mark.parametrize(
    ("lines", "trouble"),
    [
        ('kind = "tongshi"\napi = "http://192.0.2.30:8083"', "plain HTTP to another machine"),
        ('kind = "tongshi"\napi = "http://192.0.2.30:8083"\nallow_plain_http = true', ""),
        ('kind = "tongshi"\napi = "http://127.0.0.1:8083"', ""),
        ('kind = "tongshi"\napi = "http://[::1]:8083"', ""),
        ('kind = "tongshi"\napi = "http://localhost:8083"', ""),
        ('kind = "tongshi"\napi = "http://127.0.0.1:8083"\nca = "node.pem"', "ca belongs to an api of https"),
        ('kind = "tongshi"\napi = "https://192.0.2.30:8083"\nca = "node.pem"', ""),
        ('api = "http://192.0.2.30:8080"', ""),
        ('api = "http://192.0.2.30:8080"\nca = "node.pem"', "of a node of kind tongshi"),
        ('api = "http://192.0.2.30:8080"\nrtsp_url = "rtsp://192.0.2.30"', "of a node of kind tongshi"),
    ],
)
def test_a_media_node_is_commanded_in_plain_text_only_here_or_aloud(
    tmp_path: Path, lines: str, trouble: str
) -> None:
    path = tmp_path / "platform.toml"
    path.write_text(f"{PLATFORM}{SEAT}{lines}\n", encoding="utf-8")
    if not trouble:
        assert len(load(path).media.nodes) == 1
        return
    with pytest.raises(InvalidRequest, match=trouble):
        load(path)


@pytest.mark.parametrize(
    ("lines", "trouble"),
    [
        ('host = "192.0.2.30"', "no loopback address"),
        ('host = "0.0.0.0"', "no loopback address"),
        ('host = "0.0.0.0"\nallow_plain_http = true', ""),
        ('host = "192.0.2.30"\ncertificate = "a"\nkey = "b"', ""),
        ('certificate = "a"', "belong together"),
        ("[media]\nrtsp_udp_first_port = 9000\nrtsp_udp_last_port = 9000", "not behind the first"),
    ],
)
def test_a_media_node_listens_in_plain_text_only_here_or_aloud(
    tmp_path: Path, lines: str, trouble: str
) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f"{OWN}{lines}\n", encoding="utf-8")
    if not trouble:
        assert read(path, NodeConfig).node.name == "east"
        return
    with pytest.raises(InvalidRequest, match=trouble):
        read(path, NodeConfig)
