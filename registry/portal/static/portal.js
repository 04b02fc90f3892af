// Functions that htmx lacks: copy buttons, announcements for screen readers, no polling in hidden tabs, local times,
// selections, and pages that cannot be refreshed.
"use strict";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    say(button, "Copied");
  } catch {
    // Browsers have no clipboard API without TLS: select the text, so that the user can copy it.
    getSelection().selectAllChildren(source);
    say(button, "Selected");
  }
});

function say(button, word) {
  const before = button.dataset.label || button.textContent;
  button.dataset.label = before;
  button.textContent = word;
  announce(word);
  setTimeout(() => { button.textContent = before; }, 2000);
}

function announce(sentence) {
  const region = document.getElementById("announcement");
  if (region.textContent !== sentence) region.textContent = sentence;
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.hasAttribute("data-poll")) event.preventDefault();
});

// A page that answers a form: a reload shows the page of what was made, instead of sending the form again.
const made = document.querySelector("[data-own-url]");
if (made) history.replaceState(null, "", made.dataset.ownUrl);

// Times: how long ago, and the local time. The title keeps UTC.
const LANGUAGE = "en-GB";
const RELATIVE = new Intl.RelativeTimeFormat(LANGUAGE, { numeric: "auto" });
const DAY_S = 86400;
const STEPS = [[3600, "minute", 60], [DAY_S, "hour", 3600], [Infinity, "day", DAY_S]];
const CLOCK = new Intl.DateTimeFormat(LANGUAGE, { timeStyle: "medium" });
const DATE = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium", timeStyle: "short" });

function readable(date) {
  const passed = (date - Date.now()) / 1000;
  const [, unit, seconds] = STEPS.find(([limit]) => Math.abs(passed) < limit);
  const count = Math.trunc(passed / seconds);
  const now = passed < 0 ? "just now" : "in a moment";
  const today = date.toDateString() === new Date().toDateString();
  return `${count ? RELATIVE.format(count, unit) : now}, ${(today ? CLOCK : DATE).format(date)}`;
}

function localTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const text = readable(new Date(time.dateTime));
    if (time.textContent !== text) time.textContent = text;
  }
}
localTimes();
setInterval(() => { if (!document.hidden) localTimes(); }, 15000);

// Selected rows stay selected when the list refreshes.
let selected = [];
document.addEventListener("htmx:beforeSwap", () => {
  selected = [...document.querySelectorAll("#live input[type=checkbox]:checked")].map((box) => box.name);
});

document.addEventListener("htmx:afterSwap", () => {
  for (const box of document.querySelectorAll("#live input[type=checkbox]")) {
    if (selected.includes(box.name)) box.checked = true;
  }
  localTimes();
  const announced = document.querySelector("[data-announce]");
  if (announced) announce(announced.dataset.announce);
});

// A page that cannot be refreshed says so, and since when.
let refreshed = new Date();
document.addEventListener("htmx:afterRequest", (event) => {
  const polls = event.detail.elt.hasAttribute("data-poll");
  const { status } = event.detail.xhr;
  if (event.detail.successful) {
    if (polls) refreshed = new Date();
    if (polls || !document.querySelector("[data-poll]")) stale("");
  } else if (status !== 401) {
    stale(polls ? `${problem(status)} You see the state of ${CLOCK.format(refreshed)}.` : problem(status));
  }
});

function problem(status) {
  if (status === 0) return "The server does not answer.";
  if (status === 404) return "This page does not exist any more.";
  if (status === 429) return "There were too many requests. Try again in a minute.";
  return `The server answered with an error (${status}). Try again in a minute.`;
}

function stale(sentence) {
  const region = document.getElementById("stale");
  if (region.textContent === sentence) return;
  if (!sentence && !region.hidden) announce("The page is up to date again.");
  region.hidden = !sentence;
  region.textContent = sentence;
}
