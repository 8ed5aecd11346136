// Follows a stream with the `eventsource` package, and prints what happened as JSON: one array, in order.
//
// Its one argument is JSON: the url, the names of events to listen to, a url to call once the stream is open, headers to
// send, and when it is enough: after so many events (`messages`), or so many errors (`errors`).

import { EventSource } from "eventsource";

const { url, names = [], opened, headers = {}, messages = Infinity, errors = Infinity } = JSON.parse(process.argv[2]);

const happened = [];
const source = new EventSource(url, {
  fetch: (address, init) => fetch(address, { ...init, headers: { ...init.headers, ...headers } }),
});

function note(what) {
  happened.push(what);
  const count = (type) => happened.filter((each) => each.type === type).length;
  if (happened.length - count("open") - count("error") < messages && count("error") < errors) return;
  source.close();
  console.log(JSON.stringify(happened));
}

source.onopen = () => {
  note({ type: "open" });
  if (opened) fetch(opened, { method: "POST" });
};
source.onerror = ({ code = null }) => note({ type: "error", code, state: source.readyState });
for (const name of ["message", ...names]) {
  source.addEventListener(name, ({ data, lastEventId }) => note({ type: name, data, id: lastEventId }));
}
