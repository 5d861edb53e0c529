"use strict";
(() => {
  const EVERY_MS = 1000, SAY_EVERY_MS = 15000, LATE_MS = 10000, KEY = "sundog-key";
  const main = document.getElementById("live"), note = document.getElementById("note");
  const pause = document.getElementById("pause"), forget = document.getElementById("forget");
  const form = document.getElementById("enter"), field = document.getElementById("key");
  let isPaused = false, isLocked = !form.hidden, saidAt = 0, timer = 0;

  const key = () => sessionStorage.getItem(KEY);
  // What the figures show to those who see them is said to the others alone.
  const say = (text, isShown = true) => {
    note.className = isShown ? "" : "unseen";
    if (note.textContent !== text) note.textContent = text;
  };

  // Change what differs and leave the rest as it is, so that focus, selection and places of scrolling stay.
  function morph(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(document.importNode(fresh, true));
    } else if (old.nodeType === Node.ELEMENT_NODE) {
      morphAttributes(old, fresh);
      morphChildren(old, fresh);
    } else if (old.nodeValue !== fresh.nodeValue) {
      old.nodeValue = fresh.nodeValue;
    }
  }

  function morphAttributes(old, fresh) {
    for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }

  function morphChildren(old, fresh) {
    const before = [...old.childNodes], after = [...fresh.childNodes];
    after.forEach((node, place) => {
      if (place < before.length) morph(before[place], node);
      else old.append(document.importNode(node, true));
    });
    before.slice(after.length).forEach((node) => node.remove());
  }

  function lock(text) {
    isLocked = true;
    main.replaceChildren();
    form.hidden = false;
    forget.hidden = pause.hidden = true;
    say(text);
  }

  function show(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    morphChildren(main, fresh.body);
    form.hidden = true;
    forget.hidden = key() === null;
    pause.hidden = false;
    // Whoever listens hears of changes now and then, and not of each.
    const state = document.getElementById("state");
    if (state !== null && Date.now() - saidAt >= SAY_EVERY_MS) {
      saidAt = Date.now();
      say(state.dataset.said, false);
    }
  }

  async function refresh() {
    const sent = key();
    if (isLocked && sent === null) return;
    try {
      const headers = sent === null ? {} : { authorization: `Bearer ${sent}` };
      const signal = AbortSignal.timeout(LATE_MS);
      const answer = await fetch(main.dataset.from, { headers, signal, cache: "no-store" });
      if (answer.status === 401) {
        sessionStorage.removeItem(KEY);
        lock(sent === null ? "This server asks for a key." : "This key is not valid.");
      } else if (answer.ok) {
        show(await answer.text());
      } else {
        say(`The server answers with status ${answer.status}; the figures may be old.`);
      }
    } catch {
      say("The server does not answer; the figures are old.");
      saidAt = 0;
    }
  }

  async function go() {
    clearTimeout(timer);
    if (!isPaused && !document.hidden) await refresh();
    clearTimeout(timer);
    timer = setTimeout(go, EVERY_MS);
  }

  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    say(isPaused ? "Paused." : "Goes on.");
  });
  forget.addEventListener("click", () => {
    sessionStorage.removeItem(KEY);
    lock("The key is forgotten.");
    field.focus();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, field.value.trim());
    field.value = "";
    isLocked = false;
    go();
  });
  document.addEventListener("visibilitychange", go);
  pause.hidden = isLocked;
  go();
})();
