"""Serves the main run, asks it, and prints digits a second: `serving.py ours|bare DIGITS`, in the project's Python."""

import gzip
import io
import re
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection

CLIENTS, SECONDS = 16, 5.0
KIND = {"Content-Type": "multipart/form-data; boundary=xx"}


def bare() -> None:
    """Serve as one usually does."""
    import samebits

    model = samebits.load().model()
    import numpy as np
    import torch
    import uvicorn
    from fastapi import FastAPI, UploadFile
    from handwritten_digits.data.images import to_input
    from handwritten_digits.predict import answer

    app = FastAPI()

    @app.post("/predict")
    async def predict(file: UploadFile) -> list[dict[str, float]]:
        table = np.loadtxt(io.BytesIO(await file.read()), delimiter=",", ndmin=2)
        with torch.inference_mode():
            columns = answer(model(to_input(table.astype(np.uint8).reshape(-1, 8, 8))))
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False))
    start = server.startup

    async def announced(**sockets: object) -> None:
        await start(**sockets)
        print(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/", flush=True)

    server.startup = announced  # type: ignore[assignment]
    server.run()


def ask(port: int, body: bytes, until: float, counts: list[int]) -> None:
    """Ask until a time, and count the answers."""
    connection = HTTPConnection("127.0.0.1", port)
    count = 0
    while time.perf_counter() < until:
        connection.request("POST", "/predict", body, KIND)
        response = connection.getresponse()
        text = response.read()
        assert response.status == 200, text
        count += 1
    counts.append(count)


def main(way: str, digits: int) -> float:
    """Return digits a second."""
    with gzip.open("data/raw/digits/digits.csv.gz", "rt") as file:
        rows = [",".join(line.split(",")[:64]) for _, line in zip(range(digits), file, strict=False)]
    head = '--xx\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    body = (head + "\n".join(rows) + "\r\n--xx--\r\n").encode()
    ours = ["-m", "samebits", "serve", "--port=0"]
    words = [sys.executable, *(ours if way == "ours" else [__file__, "serve"])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        try:
            found = next(filter(None, (re.search(r"http://127.0.0.1:(\d+)/", line) for line in process.stdout)))
            counts: list[int] = []
            for seconds in (1.0, SECONDS):  # the first does not count
                counts.clear()
                begin = time.perf_counter()
                arguments = (int(found[1]), body, begin + seconds, counts)
                threads = [threading.Thread(target=ask, args=arguments) for _ in range(CLIENTS)]
                for each in threads:
                    each.start()
                for each in threads:
                    each.join()
                spent = time.perf_counter() - begin
            assert len(counts) == CLIENTS, "a client was refused"
            return sum(counts) * digits / spent
        finally:
            process.terminate()


if sys.argv[1] == "serve":
    bare()
else:
    print(main(sys.argv[1], int(sys.argv[2])))
