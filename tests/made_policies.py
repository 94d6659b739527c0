"""An S3 server that obeys a policy: each request is one action or more on a bucket or an object, or is refused."""

import http.client
import json
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

BUCKET_READS = {"list-type": "s3:ListBucket", "uploads": "s3:ListBucketMultipartUploads"}
STATEMENT = {"Sid", "Effect", "Action", "Resource"}
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@dataclass(frozen=True)
class Wish:
    """An action on a bucket (``bucket``) or an object (``bucket/key``)."""

    action: str
    on: str


def allows(policy, wish):
    """Whether a policy of plain Allow statements grants a wish; what this does not understand is an error."""
    for statement in policy["Statement"]:
        assert set(statement) == STATEMENT, f"not understood: {set(statement) ^ STATEMENT}"
        assert statement["Effect"] == "Allow"
        assert all("*" not in action for action in statement["Action"])
        on = f"arn:aws:s3:::{wish.on}"
        if wish.action in statement["Action"] and any(fnmatchcase(on, own) for own in statement["Resource"]):
            return True
    return False


def wishes(method, target, headers, body):
    """Say what a request asks for, as the authorisation reference of S3 does."""
    parts = urlsplit(target)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    query = parse_qs(parts.query, keep_blank_values=True)
    on = f"{bucket}/{key}" if key else bucket
    if not key:
        return _of_bucket(method, bucket, query, body)
    if method in ("GET", "HEAD"):
        return [Wish("s3:ListMultipartUploadParts" if "uploadId" in query else "s3:GetObject", on)]
    if method == "DELETE":
        return [Wish("s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject", on)]
    if method == "PUT" and "x-amz-copy-source" in headers:
        source = unquote(headers["x-amz-copy-source"]).lstrip("/")
        return [Wish("s3:GetObject", source), Wish("s3:PutObject", on)]
    if method == "PUT" and not set(query) - {"partNumber", "uploadId", "x-id"}:
        return [Wish("s3:PutObject", on)]
    if method == "POST" and set(query) & {"uploads", "uploadId"}:
        return [Wish("s3:PutObject", on)]
    raise AssertionError(f"not understood: {method} {target}")


def _of_bucket(method, bucket, query, body):
    if method == "POST" and "delete" in query:
        keys = [found.text for found in ElementTree.fromstring(body).iter() if found.tag.endswith("}Key")]
        assert keys
        return [Wish("s3:DeleteObject", f"{bucket}/{key}") for key in keys]
    if method == "HEAD":
        return [Wish("s3:ListBucket", bucket)]
    found = [action for name, action in BUCKET_READS.items() if name in query]
    if method == "GET" and len(found) == 1:
        return [Wish(found[0], bucket)]
    raise AssertionError(f"not understood: {method} {bucket} {query}")


class PolicedServer:
    """Passes requests on to an S3 server where a policy allows them.

    Attributes:
        url: Its address.
        policy: What is allowed; may be replaced at any time.
        used: The granted wishes.
        denied: Those refused.
        broken: A request that this answers with 403 whatever the policy says, as a predicate of method and target.
    """

    def __init__(self, server, policy):
        self.policy, self.used, self.denied, self.broken = policy, [], [], lambda method, target: False
        self._upstream = urlsplit(server).netloc
        outer = self

        class Handler(_Handler):
            owner = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method, target, headers, body):
        """Give status, headers and body of an answer."""
        asked = wishes(method, target, {name.lower(): value for name, value in headers.items()}, body)
        refused = [wish for wish in asked if not allows(self.policy, wish)]
        if self.broken(method, target):
            return 403, {}, DENIED
        if refused:
            self.denied += refused
            return 403, {}, DENIED
        self.used += asked
        status, fields, data = self._ask(method, target, headers, body)
        listing = Wish("s3:ListBucket", asked[0].on.partition("/")[0])
        if status == 404 and asked[0].action == "s3:GetObject" and not allows(self.policy, listing):
            # S3 does not say of a missing object that it is missing to those who may not list its bucket.
            self.denied.append(listing)
            return 403, {}, DENIED
        return status, fields, data

    def _ask(self, method, target, headers, body):
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            kept = {n: v for n, v in headers.items() if n.lower() not in ("transfer-encoding", "expect", "connection")}
            connection.request(method, target, body, kept | {"Content-Length": str(len(body))})
            found = connection.getresponse()
            return found.status, dict(found.getheaders()), found.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: PolicedServer

    def _body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _serve(self):
        body = self._body()
        try:
            status, fields, data = self.owner.answer(self.command, self.path, dict(self.headers), body)
        except Exception as error:
            status, fields, data = 400, {}, repr(error).encode()
            self.owner.denied.append(Wish(repr(error), self.path))
        self.send_response_only(status)
        dropped = {"content-length", "transfer-encoding", "connection"}
        length = fields.get("Content-Length") if self.command == "HEAD" else None
        for name, value in fields.items():
            if name.lower() not in dropped:
                self.send_header(name, value)
        self.send_header("Content-Length", length if length is not None else str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - as the base class calls them

    def log_message(self, *args):
        pass


def read_policy(path, **names):
    """Read a policy and put names for its placeholders, which it must hold."""
    text = path.read_text()
    for placeholder, name in names.items():
        placeholder = placeholder.replace("_", "-")
        assert placeholder in text
        text = text.replace(placeholder, name)
    return json.loads(text)
