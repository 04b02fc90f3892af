"""A registry that answers from a table: for upstreams that no packaged registry is."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from tests.support.http_server import Handler, HttpServer


class StaticRegistry(HttpServer):
    """Serves `/v2/<name>/<kind>/<reference>` on a free port of 127.0.0.1; everything else is not there.

    Args:
        answers: `<name>/<kind>/<reference>` to media type and body.
    """

    def __init__(self, answers: Mapping[str, tuple[str, bytes]]) -> None:
        class Answering(Handler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path.removeprefix("/v2/")
                media_type, body = answers.get(path, ("text/plain", b""))
                self.answer(200 if path in answers or not path else 404, body, media_type)

            do_HEAD = do_GET

        super().__init__(Answering)
        self.host = f"127.0.0.1:{self.port}"
