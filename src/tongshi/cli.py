"""The ``tongshi`` command: each subcommand is one function elsewhere, imported only when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tongshi import __version__
from tongshi.errors import TongshiError

Run = Callable[[argparse.Namespace], int]
BENCHES = {
    "media": "ingest, relay, fan-out and delay of the media engine",
    "picture": "time from the request to the first picture",
    "soak": "hours of viewers coming and going, with memory and descriptors",
    "link": "media over a link that loses, delays and reorders",
    "sip": "registrations, keepalives and calls of the SIP engine",
    "exchange": "full, changes and proof of archives between two platforms",
    "query": "box select and search over a million devices",
    "files": "export and import of a million rows",
}


def _serve(args: argparse.Namespace) -> int:
    from tongshi.app.serve import run

    return run(args.config)


def _media_node(args: argparse.Namespace) -> int:
    from tongshi.app.media_node import run

    return run(args.config)


def _openapi(_: argparse.Namespace) -> int:
    from tongshi.app.serve import openapi_document

    sys.stdout.write(openapi_document())
    return 0


def _audit_verify(args: argparse.Namespace) -> int:
    from tongshi.app.serve import verify_audit

    return verify_audit(args.config)


def _lazy(module: str, name: str) -> Run:
    def run(args: argparse.Namespace) -> int:
        from importlib import import_module

        found: Run = getattr(import_module(module), name)
        return found(args)

    return run


def _add_from(parser: argparse.ArgumentParser, module: str) -> None:
    """Let a part name its own arguments; a part whose extra packages are missing says so when it is run."""
    from importlib import import_module

    import_module(module).add_arguments(parser)
    parser.set_defaults(run=_lazy(module, "run_cli"))


def parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The whole command line; only the part that ``words`` name is imported."""
    top = argparse.ArgumentParser(prog="tongshi", description="通视：视频数据资源管理平台")
    top.add_argument("--version", action="version", version=f"tongshi {__version__}")
    commands = top.add_subparsers(required=True, metavar="command")

    serve = commands.add_parser("serve", help="run a platform")
    serve.add_argument(
        "--config", type=Path, required=True, help="configuration file, see config.example.toml"
    )
    serve.set_defaults(run=_serve)

    node = commands.add_parser("media-node", help="carry streams for a platform, usually on another machine")
    node.add_argument(
        "--config", type=Path, required=True, help="configuration file, see media-node.example.toml"
    )
    node.set_defaults(run=_media_node)

    openapi = commands.add_parser("openapi", help="print the OpenAPI document")
    openapi.set_defaults(run=_openapi)

    audit = commands.add_parser("audit", help="work on the audit record")
    audits = audit.add_subparsers(required=True, metavar="what")
    verify = audits.add_parser("verify", help="verify the hash chain, offline")
    verify.add_argument(
        "--config", type=Path, required=True, help="configuration file of the platform whose record it is"
    )
    verify.set_defaults(run=_audit_verify)

    demo = commands.add_parser("demo", help="a city, its neighbours and twelve cameras on loopback")
    simulate = commands.add_parser("simulate", help="simulated devices")
    simulated = simulate.add_subparsers(required=True, metavar="what")
    camera = simulated.add_parser("camera", help="one or many cameras")
    lower = simulated.add_parser("lower", help="a lower platform with many channels, well or badly behaved")
    upper = simulated.add_parser("upper", help="an upper platform that asks for a catalogue and counts")
    bench = commands.add_parser("bench", help="measure, beside a raw baseline in the same run")
    benches = bench.add_subparsers(required=True, metavar="what")
    measured = {name: benches.add_parser(name, help=words) for name, words in BENCHES.items()}

    chaos = commands.add_parser("chaos", help="break what runs at random, and see that it ends equal")
    broken = chaos.add_subparsers(required=True, metavar="what")
    chaos_exchange = broken.add_parser("exchange", help="platforms that exchange archives in a storm")

    ledger = commands.add_parser("ledger", help="import or export a ledger of cameras (一机一档)")
    if words[:1] == ["ledger"]:
        _add_from(ledger, "tongshi.app.ledger")
    share = commands.add_parser("share", help="the archive as a database for one grantee")

    if words[:1] == ["share"]:
        _add_from(share, "tongshi.app.share")
    if words[:1] == ["demo"]:
        _add_from(demo, "tongshi.demo.run")
    if words[:1] == ["simulate"]:
        _add_from(camera, "tongshi.testing.simulate")
        _add_from(lower, "tongshi.testing.simulate_lower")
        _add_from(upper, "tongshi.testing.simulate_upper")
    if words[:2] == ["chaos", "exchange"]:
        _add_from(chaos_exchange, "tongshi.testing.chaos.run")
    if words[:1] == ["bench"] and len(words) > 1 and words[1] in measured:
        _add_from(measured[words[1]], f"tongshi.bench.{words[1]}")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code says whether it did what it was asked."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser(words).parse_args(words)
    run: Run = args.run
    try:
        return run(args)
    except TongshiError as error:
        print(f"tongshi: {error.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tongshi"):
            raise
        print(f"tongshi: 缺少 Python 包 {error.name}；请运行 make setup", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
