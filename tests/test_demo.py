"""The page to draw on: its answers in a real browser, and what it refuses."""

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from mnist_adder.__main__ import main
from mnist_adder.runs.folder import load_pretrained

gradio = pytest.importorskip("gradio", reason="no gradio: pip install '.[demo]'")
httpx = pytest.importorskip("httpx")
demo = pytest.importorskip("mnist_adder.demo")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PREDICT = "gradio_api/run/predict"


class Listener:
    """Stands where everything outside this machine would be, and keeps what arrives."""

    def __init__(self):
        self.received = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.received.append(connection.recv(500))


class Server:
    """`mnist-adder demo` in a process of its own."""

    def __init__(self, environment, log):
        self.log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mnist_adder", "demo"],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
            )
        line = self.process.stdout.readline()
        match = re.search(r"http://\S+", line)
        assert match, line + log.read_text()
        self.url = match[0]

    def ask(self, path="", method="GET", **options):
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60) as client:
            return client.request(method, path, **options)

    def predict(self, drawing, number=5, **fields):
        body = json.dumps({"data": [drawing, number], **fields})
        return self.ask(PREDICT, "POST", content=body, headers={"Content-Type": "application/json"})

    def peak_memory(self):
        """The most memory that the server has had so far, in MB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) / 1024


@pytest.fixture(scope="module")
def outside():
    listener = Listener()
    yield listener
    listener.socket.close()


@pytest.fixture(scope="module")
def server(outside, tmp_path_factory):
    """Served with a Hugging Face token to steal, a useless proxy, and no folder for Gradio's files."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "token").write_text("hf_false")
    temporary = folder / "tmp"
    temporary.mkdir()
    (temporary / "gradio").write_text("someone else's")  # a file: Gradio cannot have a folder of this name
    server = Server(
        {
            **os.environ,
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), outside.url),
            "HF_ENDPOINT": outside.url,
            "HF_HOME": str(folder),
            "TMPDIR": str(temporary),
        },
        folder / "stderr",
    )
    yield server
    files = [path.name for path in temporary.rglob("*") if path.is_file()]
    server.process.send_signal(signal.SIGINT)
    server.process.communicate(timeout=20)
    assert files == ["gradio"]  # no drawing was kept
    assert os.listdir(temporary) == ["gradio"]  # and Gradio's own folder is removed


@pytest.fixture(autouse=True)
def quiet(request):
    """After every test that asks the server: nothing went out, and the terminal shows no traceback."""
    yield
    if "server" in request.fixturenames:
        assert request.getfixturevalue("outside").received == []
        assert request.getfixturevalue("server").log.read_text() == ""


def png(side=280):
    """A drawing of a 1."""
    pixels = np.full((side, side), 255, np.uint8)
    pixels[side // 4 : 3 * side // 4, side // 2 - 10 : side // 2 + 10] = 0
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def data_url(file):
    return "data:image/png;base64," + base64.b64encode(file).decode()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser")
    if not CHROMIUM:
        pytest.skip("no Chromium in PATH")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
def test_drawing(browser, server, width):
    from playwright.sync_api import expect

    page = browser.new_page(viewport={"width": width, "height": 900})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(server.url)
    canvas = page.locator("#sketch canvas").first
    canvas.wait_for()
    page.locator("#number label", has_text="5").click()  # before there is any drawing
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.25
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + box["height"] / 2, steps=10)
    page.mouse.up()
    answers = [page.locator(f"#{name} [data-testid='label-output-value']") for name in ("digit", "sum")]
    expect(answers[0]).to_have_text("1")
    for number in (5, 8):
        page.locator("#number label", has_text=str(number)).click()
        expect(answers[1]).to_have_text(str(1 + number))
    page.locator("#pixels img").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert {urlsplit(address).hostname for address in asked if address.startswith(("http", "ws"))} == {"127.0.0.1"}
    page.get_by_text("Clear").click()
    answers[0].wait_for(state="hidden")
    page.locator("#sketch img").nth(3).click()
    expect(answers[0]).to_have_text("3")
    assert problems == []  # the page was refused nothing that it asked for
    kept = page.evaluate("async () => [Object.keys(localStorage), await indexedDB.databases()]")
    assert kept == [[], []]  # no run history in the browser
    page.close()


def test_nothing_goes_out(server, outside):
    """Whatever route of Gradio a caller asks for, with the token of this machine's user within reach."""
    from gradio.routes import App

    paths = App.create_app(demo.page(load_pretrained())).openapi()["paths"]
    assert "/gradio_api/upload" in paths
    headers = {"x-gradio-history-bucket": "someone/bucket"}
    for path, methods in paths.items():
        path = re.sub(r"{(\w+)(:path)?}", f"{outside.url}/x", path) + "?bucket=someone/bucket"
        for method in methods:
            body = {"json": {"bucket_id": "someone/bucket"}} if method == "post" else {}
            server.ask(path, method.upper(), headers=headers, **body)
    answer = server.ask(PREDICT, "POST", headers=headers, json={"data": [data_url(png()), 5]})
    assert answer.json()["data"][0]["label"] == 1


def test_other_routes(server):
    for path in ("gradio_api/upload", "gradio_api/runs", "gradio_api/queue/join", "gradio_api/file=x", "docs"):
        assert {server.ask(path, method).status_code for method in ("GET", "POST")} == {404}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 90_000,
        b"{}",
        b"null",
        b'{"data": []}',
        b'{"data": [null, 5]}',
        b'{"data": ["", 10]}',
        b'{"data": ["", -1]}',
        b'{"data": ["", 5.5]}',
        b'{"data": ["", NaN]}',
        b'{"data": ["", ' + b"9" * 5000 + b"]}",
        b'{"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, 5]}',
    ],
    ids=lambda body: body[:30].decode(errors="replace"),
)
def test_malformed(server, body):
    assert server.ask(PREDICT, "POST", content=body).status_code == 400


@pytest.mark.parametrize(
    "drawing",
    [
        "",
        "\ud800",
        "data:image/png;base64,AAA",
        data_url(png()[:100]),
        data_url(png(300)),  # not the canvas's size
        data_url(png()[:16] + struct.pack(">II", 60_000, 60_000) + png()[24:]),
    ],
    ids=["empty", "surrogate", "no base64", "truncated", "large", "huge"],
)
def test_no_drawing(server, drawing):
    digit, sum, pixels = server.predict(drawing).json()["data"]
    assert not (digit or sum or pixels)


def test_other_fields_are_dropped(server):
    """They would name another function, a session to be remembered, or a batch."""
    answer = server.predict(data_url(png()), fn_index=7, session_hash="s", batched=True, event_data=[])
    assert answer.json()["data"][1]["label"] == 6


def test_large_requests(server):
    def chunks():
        for _ in range(20):
            yield b"x" * 100_000

    assert server.ask(PREDICT, "POST", content=b"x" * 2_000_000).status_code == 413
    assert server.ask(PREDICT, "POST", content=chunks()).status_code == 413
    host, port = urlsplit(server.url).netloc.split(":")
    with socket.create_connection((host, port)) as connection:  # announced, but never sent
        connection.sendall(f"POST /{PREDICT} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9999\r\n\r\n{{".encode())


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux tells a process's peak memory")
def test_memory_of_a_flood(server):
    drawing = data_url(png())
    fields = {"session_hash": "s" * (99_000 - len(drawing))}
    server.predict(drawing)
    before = server.peak_memory()
    large = b"x" * 30_000_000
    with ThreadPoolExecutor(30) as pool:
        answers = pool.map(lambda _: server.predict(drawing, **fields).status_code, range(25))
        refused = pool.map(lambda _: server.ask(PREDICT, "POST", content=large).status_code, range(8))
        assert set(answers) == {200}
        assert set(refused) == {413}
    assert server.peak_memory() < before + 100


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "attacker.example"}, 400),
        ({"Origin": "http://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:7860", "Origin": "http://localhost:7860"}, 200),
    ],
)
def test_host_and_origin(server, headers, status):
    assert server.ask(headers=headers).status_code == status


@pytest.fixture
def launch():
    served = []

    def launch(**options):
        served.append(demo.launch(load_pretrained(), block=False, **options))
        return served[-1].local_url

    yield launch
    for blocks in served:
        blocks.close()


def test_colab(launch, monkeypatch):
    """There the page is shown through a proxy, under another name."""
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    headers = {"Host": "x.colab.example", "Origin": "https://x.colab.example", "Content-Type": "application/json"}
    body = json.dumps({"data": [data_url(png()), 5]})
    answer = httpx.post(launch() + PREDICT, content=body, headers=headers, trust_env=False)
    assert answer.json()["data"][0]["label"] == 1


def test_ipv6(launch):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6")
    assert httpx.get(launch(host="::1"), trust_env=False).status_code == 200


@pytest.mark.parametrize(
    "options",
    [["--port", "70000"], ["--port", "taken"], ["--host", "no-such-host.invalid"], ["--host", "192.0.2.1"]],
    ids=" ".join,
)
def test_cannot_be_served(options, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["demo", *(port if option == "taken" else option for option in options)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot be served at" in error


@pytest.mark.parametrize("version", [None, "5.49.1"], ids=["missing", "old"])
def test_without_gradio(monkeypatch, capsys, version):
    if version:
        monkeypatch.setattr(gradio, "__version__", version)
    else:
        monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "mnist_adder.demo")
    assert main(["demo"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install '.[demo]'" in error
