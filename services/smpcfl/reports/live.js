// Replaces the sections of the page as the server sends them, and counts the seconds of the phase.
"use strict";
const main = document.querySelector("main");
const offset = { seconds: 0 }; // of the server's clock

const waiting = new Map(); // what came while somebody was at work in its section

function place(id, html) {
  let section = document.getElementById(id);
  if (!section) {
    section = document.createElement("section");
    section.id = id;
    main.append(section);
  }
  const open = [...section.querySelectorAll("details")].map((item) => item.open);
  const focused = section.contains(document.activeElement);
  if (focused) {
    waiting.set(id, html); // not under somebody's hands
    return;
  }
  waiting.delete(id);
  section.innerHTML = html;
  section.querySelectorAll("details").forEach((item, index) => {
    item.open = open[index] ?? false;
  });
}

function count() {
  for (const clock of document.querySelectorAll("time[data-since]")) {
    const seconds = Date.now() / 1000 - offset.seconds - Number(clock.dataset.since);
    clock.textContent = `${Math.max(seconds, 0).toFixed(0)} s`;
  }
}

main.addEventListener("focusout", () => {
  setTimeout(() => {
    for (const [id, html] of [...waiting]) place(id, html);
    count();
  });
});

const events = new EventSource("events");
events.addEventListener("sections", (event) => {
  const { now, order, sections } = JSON.parse(event.data);
  offset.seconds = Date.now() / 1000 - now;
  for (const [id, html] of Object.entries(sections)) place(id, html);
  for (const id of order) main.append(document.getElementById(id));
  count();
});
events.addEventListener("end", () => {
  events.close();
  document.documentElement.dataset.ended = "true";
});
setInterval(count, 1000);
