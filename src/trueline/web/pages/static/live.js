// Keeps a page as the server would render it now. A stream of events says when; the page itself, fetched again, says
// what, so that there is one place that knows how anything looks. Without this script the page is the same, standing still.

const STREAM = "/api/v1/events/stream";
const PAUSE_MS = 1000; // between two looks, however fast events come
const LONGEST_MS = 5000; // when the server is slow to answer
const RETRY_MS = 3000; // when the browser has given a stream up

const sign = document.getElementById("live");
let stream = null;
let last = null; // the id of the newest event heard
let waiting = null;
let looked = 0;
let took = 0;
// Each part as the server told it last: what is shown may since have been pointed at.
const told = new Map([...document.querySelectorAll("[data-live]")].map((part) => [part.id, part.innerHTML]));

function say(state, words) {
  if (!sign || sign.dataset.state === state) return;
  sign.dataset.state = state;
  sign.textContent = words;
}

function connect() {
  stream = new EventSource(last === null ? STREAM : `${STREAM}?after=${last}`);
  stream.onopen = () => {
    say("on", "live");
    look();
  };
  stream.onmessage = (event) => {
    last = event.lastEventId;
    look();
  };
  stream.onerror = () => {
    say("lost", "connecting again");
    if (stream.readyState === EventSource.CLOSED) setTimeout(again, RETRY_MS);
  };
}

function disconnect() {
  if (stream) stream.close();
  stream = null;
}

async function again() {
  if (document.hidden) return;
  const answer = await fetch(location.href, { cache: "no-store" }).catch(() => null);
  if (answer && answer.status === 401) {
    say("ended", "logged out: trueline open");
    return;
  }
  disconnect();
  connect();
}

function look() {
  if (waiting) return;
  const pause = Math.max(0, looked + Math.min(Math.max(PAUSE_MS, 3 * took), LONGEST_MS) - performance.now());
  waiting = setTimeout(async () => {
    waiting = null;
    const began = performance.now();
    const answer = await fetch(location.href, { cache: "no-store" }).catch(() => null);
    if (answer && answer.ok) renew(new DOMParser().parseFromString(await answer.text(), "text/html"));
    looked = performance.now();
    took = looked - began;
  }, pause);
}

function renew(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) replace(part, fresh.getElementById(part.id));
  for (const list of document.querySelectorAll("[data-live-list]")) merge(list, fresh.getElementById(list.id));
  document.dispatchEvent(new Event("renewed"));
}

// What did not change stays as it is, and what somebody opened or stands on stays open and stood on.
function replace(part, fresh) {
  if (!fresh || told.get(part.id) === fresh.innerHTML) return;
  told.set(part.id, fresh.innerHTML);
  const open = [...part.querySelectorAll("details")].map((one) => one.open);
  const places = [...part.querySelectorAll("a, [tabindex]")];
  const place = places.indexOf(document.activeElement);
  part.replaceChildren(...document.importNode(fresh, true).childNodes);
  part.querySelectorAll("details").forEach((one, index) => (one.open = open[index] ?? false));
  if (place >= 0) part.querySelectorAll("a, [tabindex]")[place]?.focus({ preventScroll: true });
}

// Events that are shown already keep their element; each is there once.
function merge(list, fresh) {
  if (!fresh) return;
  const known = new Map([...list.children].map((item) => [item.id, item]));
  const items = [...fresh.children].map((item) => {
    const shown = known.get(item.id);
    if (shown) return shown;
    const added = document.importNode(item, true);
    added.classList.add("fresh");
    return added;
  });
  const same = items.length === list.children.length && items.every((item, index) => item === list.children[index]);
  if (!same) list.replaceChildren(...items);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    disconnect(); // browsers allow six connections to one server
  } else if (!stream) {
    connect();
  }
});
window.addEventListener("pagehide", disconnect);
window.addEventListener("pageshow", (event) => event.persisted && connect());

connect();
