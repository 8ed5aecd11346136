"""Middleware around an app and around a router, error handlers, and what runs before the first request."""

import time
from contextlib import asynccontextmanager

from hypern import HTTPException, Hypern, Router
from hypern.middleware import CompressionMiddleware, CorsMiddleware


@asynccontextmanager
async def lifespan(app):
    app.greetings = {"en": "Hello", "de": "Hallo"}
    yield
    app.greetings.clear()


app = Hypern(lifespan=lifespan)
app.use(CorsMiddleware(("https://app.example",), allow_credentials=True))
app.use(CompressionMiddleware())


async def timing(res, next):  # noqa: A002, the name by which it is passed
    started = time.perf_counter()
    await next()
    res.header("server-timing", f"app;dur={(time.perf_counter() - started) * 1000:.1f}")


async def authenticate(req, ctx, next):  # noqa: A002
    if req.header("authorization") != "Bearer secret":
        raise HTTPException(401, headers={"www-authenticate": "Bearer"})
    ctx.user = "ada"
    await next()


app.use(timing)


@app.get("/greet/:language")
def greet(req, ctx):
    return ctx.app.greetings[req.param("language")]


@app.error_handler(KeyError)
def unknown_language(res, error):
    res.status(404).json({"detail": f"No greeting in {error.args[0]}"})


private = Router("/private")
private.use(authenticate)


@private.get("/me")
def me(ctx):
    return {"user": ctx.user}


app.use("/api", private)

if __name__ == "__main__":
    app.listen(port=5000, host="127.0.0.1")
