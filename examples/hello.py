"""A few routes, and a stream of events: `python examples/hello.py`, then `curl -N http://127.0.0.1:5000/ticks`."""

import asyncio

from hypern import HTTPException, Hypern, SSEEvent

app = Hypern()
BOOKS = {"1": {"title": "Emma"}, "2": {"title": "Persuasion"}}


@app.get("/")
def hello(res):
    res.text("Hello from a thread")


@app.get("/books/:id")
async def book(req):
    found = BOOKS.get(req.param("id"))
    if found is None:
        raise HTTPException(404, "No such book")
    return found


@app.post("/books")
def add_book(req, res):
    identifier = str(len(BOOKS) + 1)
    BOOKS[identifier] = req.json(dict[str, str])
    res.status(201).header("location", f"/books/{identifier}").json({"id": identifier})


@app.sse("/ticks")
async def ticks(req):
    start = int(req.last_event_id or 0)
    for number in range(start + 1, start + 4):
        yield SSEEvent({"tick": number}, id=str(number), event="tick")
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    app.listen(port=5000, host="127.0.0.1")
