// Node's http module. Node has one way to wait, so both names of a job lead to the same code.

import { createServer } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { constants, createGzip } from "node:zlib";

const CHUNK = Buffer.alloc(65_536);

function* burst(query) {
  const count = Number(query.get("count") ?? 100_000);
  for (let i = 0; i < count; i++) yield `id: ${i}\nevent: counter\ndata: Event ${i}\n\n`;
}

async function* paced(query) {
  const interval = 1000 / Number(query.get("rate") ?? 10);
  for (;;) {
    yield `data: ${(performance.timeOrigin + performance.now()) / 1000}\n\n`;
    await sleep(interval);
  }
}

async function* idle() {
  yield "data: open\n\n";
  await sleep(3_600_000);
}

function* download(query) {
  const size = Number(query.get("size") ?? 1_073_741_824);
  for (let sent = 0; sent < size; sent += CHUNK.length) yield CHUNK;
}

const streams = { burst, paced, idle, download };

async function stream(job, query, request, response) {
  response.setHeader("content-type", job === "download" ? "application/octet-stream" : "text/event-stream");
  const stages = [Readable.from(streams[job](query))];
  if (request.headers["accept-encoding"] === "gzip") {
    response.setHeader("content-encoding", "gzip");
    stages.push(createGzip({ level: 1, flush: constants.Z_SYNC_FLUSH }));
  }
  try {
    await pipeline(...stages, response);
  } catch (error) {
    if (error.code !== "ERR_STREAM_PREMATURE_CLOSE") throw error;
  }
}

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  const job = url.pathname.slice(1).replace(/-(sync|async)$/, "");
  if (job === "hello") {
    response.setHeader("content-type", "text/plain; charset=utf-8");
    response.end("Hello, world!");
  } else if (job === "json") {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ message: "Hello, world!" }));
  } else if (job in streams) {
    stream(job, url.searchParams, request, response);
  } else {
    response.statusCode = 404;
    response.end();
  }
});

server.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
