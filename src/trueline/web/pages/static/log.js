// What a run prints while it runs: asked for again every second behind what is shown, until the run has ended.

const EVERY_MS = 1000;
const said = document.querySelector("[data-log]");

function place(step) {
  const name = step ?? "";
  const shown = [...said.querySelectorAll("pre")].find((one) => one.dataset.step === name);
  if (shown) return shown;
  const made = document.createElement("pre");
  made.dataset.step = name;
  made.tabIndex = 0;
  if (name) {
    const title = document.createElement("h3");
    title.textContent = name;
    said.append(title);
  }
  said.append(made);
  return made;
}

async function more() {
  if (!document.hidden) {
    const query = new URLSearchParams({ after: said.dataset.next });
    const answer = await fetch(`${said.dataset.log}?${query}`).catch(() => null);
    if (answer?.ok) {
      const { items, next, ended } = await answer.json();
      for (const { step, text } of items) {
        const shown = place(step);
        const below = shown.scrollTop + shown.clientHeight >= shown.scrollHeight - 4;
        shown.append(text);
        if (below) shown.scrollTop = shown.scrollHeight;
      }
      said.dataset.next = next;
      if (ended) return;
    }
  }
  setTimeout(more, EVERY_MS);
}

if (said && !said.hasAttribute("data-ended")) more();
