"""The demonstration's layout: what is written is what is read, and both sides of a link agree."""

from pathlib import Path

from tongshi.config.sections import load
from tongshi.demo.topology import UNBROWSED_PORTS, build, config, free_port, write_toml


def test_a_written_configuration_is_read_back_equal(tmp_path: Path) -> None:
    topology = build()
    for site in topology.sites:
        made = config(topology, site, tmp_path)
        write_toml(made, tmp_path / f"{site.key}.toml")
        assert load(tmp_path / f"{site.key}.toml") == made


def test_both_sides_of_a_link_carry_the_same_secrets(tmp_path: Path) -> None:
    topology = build()
    city = config(topology, topology.city, tmp_path)
    assert len(city.neighbours) == 3
    for neighbour in city.neighbours:
        site = next(site for site in topology.sites if site.id == neighbour.id)
        (back,) = config(topology, site, tmp_path).neighbours
        assert (back.sip_secret, back.rest_key, back.rest_secret) == (
            neighbour.sip_secret,
            neighbour.rest_key,
            neighbour.rest_secret,
        )
        assert back.id == city.platform.id
        assert (back.relation, neighbour.relation) in {("upper", "lower"), ("upper", "lateral")}


def test_twelve_cameras_with_both_codecs_stand_below_their_platforms() -> None:
    topology = build()
    assert len(topology.cameras) == 12
    assert {camera.codec for camera in topology.cameras} == {"h264", "h265"}
    assert {camera.sip_transport for camera in topology.cameras} == {"udp", "tcp"}
    assert len({camera.id for camera in topology.cameras}) == 12
    for camera in topology.cameras:
        assert len(camera.id) == 20
        assert camera.id.startswith(topology.site(camera.site).device_prefix)


def test_a_page_is_never_served_where_no_browser_goes() -> None:
    # An offset that made one test run in some hundreds fail.
    for site in build(port_offset=2_000).sites:
        assert not {site.http_port, site.media_port} & UNBROWSED_PORTS
    assert free_port(10_080, set(), is_browsed=True) > 10_080
    assert free_port(6_665, set(), is_browsed=True) > 6_669
