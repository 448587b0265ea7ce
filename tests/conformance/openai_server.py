"""A server that speaks OpenAI's interface, on the standard library alone: what it answers can be scripted,
and it keeps the account of what it charges, independently of whoever is charged."""

import base64
import http.server
import json
import struct
import threading
import time
from collections import Counter, deque
from decimal import Decimal

KEY = "sk-test-0123456789abcdef"


class Prices:
    def __init__(self, per_call="0", per_1k_input="0", per_1k_output="0"):
        self.per_call, self.input, self.output = (Decimal(text) for text in (per_call, per_1k_input, per_1k_output))

    def of(self, usage):
        tokens = self.input * usage["prompt_tokens"] + self.output * usage.get("completion_tokens", 0)
        return self.per_call + tokens / 1000


class OpenAiServer:
    """Answers on a port of its own. `script` holds what becomes of the next calls; then they succeed.

    An entry is a status with its body and headers, or a word: `garbage` and `truncated` are charged for,
    `drop` and `hang` are not.
    """

    def __init__(self, prices=None, key=KEY, decide=None):
        self.prices, self.key, self.decide = prices or Prices(), key, decide
        self.script, self.calls, self.bodies = deque(), Counter(), []
        self.charged, self.lock = Decimal(0), threading.Lock()
        self.headers, self.gate = [], threading.Event()
        self.delay_s, self.in_flight, self.most_in_flight = 0, 0, 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1  # one write for each answer

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with server.lock:
                    server.calls[self.path] += 1
                    server.headers.append({name.lower(): value for name, value in self.headers.items()})
                    server.bodies.append(body)
                    server.in_flight += 1
                    server.most_in_flight = max(server.most_in_flight, server.in_flight)
                try:
                    server.answer(self, json.loads(body))
                    self.wfile.flush()
                except (BrokenPipeError, ConnectionResetError):
                    pass
                finally:
                    with server.lock:
                        server.in_flight -= 1

            def do_GET(self):
                server.reply(self, 404, {"error": {"message": "no such page"}})

            def log_message(self, *_):
                pass

        class Threads(http.server.ThreadingHTTPServer):
            request_queue_size = 2048
            daemon_threads = True

        self.server = Threads(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def n_calls(self):
        return sum(self.calls.values())

    def charge(self, amount):
        with self.lock:
            self.charged += amount

    def answer(self, handler, request):
        if self.delay_s:
            time.sleep(self.delay_s)  # a slow model: what is tested is who waits meanwhile
        if self.key and handler.headers.get("authorization") != f"Bearer {self.key}":
            said = {"error": {"message": f"Incorrect API key: {handler.headers.get('authorization')}"}}
            return self.reply(handler, 401, said)
        with self.lock:
            number = self.n_calls
            fault = self.script.popleft() if self.script else None
        if fault is None and self.decide:
            fault = self.decide(number, request)
        if fault == "drop":
            handler.close_connection = True
            return None
        if fault == "hang":
            self.gate.wait(60)
            handler.close_connection = True
            return None
        if isinstance(fault, tuple):
            return self.reply(handler, *fault)
        if handler.path.endswith("/embeddings"):
            body = embeddings(request)
        else:
            body = completion(request)
        if fault == "garbage":  # it has worked, and wants to be paid
            body = {"usage": body["usage"], "choices": "nonsense", "data": "nonsense"}
        if fault == "nonsense":
            self.charge(self.prices.per_call)
            return self.reply(handler, 200, b"\x00\xff nonsense")
        if fault == "truncated":
            self.charge(self.prices.per_call)
            data = json.dumps(body).encode()
            handler.send_response(200)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(data) + 100))
            handler.end_headers()
            handler.wfile.write(data)
            handler.close_connection = True
            return None
        self.charge(self.prices.of(body["usage"]))
        return self.reply(handler, 200, body)

    @staticmethod
    def reply(handler, status, body, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


def said(request):
    """The last thing that somebody said."""
    return request["messages"][-1]["content"]


def completion(request):
    text = said(request)[::-1]
    usage = {"prompt_tokens": len(said(request)), "completion_tokens": len(text.split())}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": request["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": usage | {"total_tokens": sum(usage.values())},
    }


def vector(text):
    return [float(len(text)), float(text.count("a")), 0.5]


def embeddings(request):
    texts = request["input"]
    coded = [vector(text) for text in texts]
    if request.get("encoding_format") == "base64":
        coded = [base64.b64encode(struct.pack("<3f", *one)).decode() for one in coded]
    entries = [{"object": "embedding", "index": idx, "embedding": one} for idx, one in enumerate(coded)]
    tokens = sum(map(len, texts))
    return {
        "object": "list", "data": entries[::-1], "model": request["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
