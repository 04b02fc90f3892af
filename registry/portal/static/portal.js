// Functions that htmx lacks: copy buttons, announcements for screen readers, no polling in hidden tabs, reloads.
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

document.addEventListener("htmx:afterSwap", () => {
  const announced = document.querySelector("[data-announce]");
  if (announced) announce(announced.dataset.announce);
});

// A page that answers a form: a reload shows the page of what was made, instead of sending the form again.
const made = document.querySelector("[data-own-url]");
if (made) history.replaceState(null, "", made.dataset.ownUrl);

// Times are in UTC; the title has the user's own time.
function localTimes() {
  for (const time of document.querySelectorAll("time[datetime]:not([title])")) {
    time.title = new Date(time.dateTime).toLocaleString();
  }
}
document.addEventListener("htmx:afterSwap", localTimes);
localTimes();
