// Tells the numbers of the day that is pointed at, or that the arrow keys went to. They come from the table below the
// curve, which is also what is read without this script.

let day = null;

const figure = () => document.querySelector("[data-curve]");
const rows = () => [...document.querySelectorAll("tr[data-day]")];

function picture() {
  return [...document.querySelectorAll("[data-curve] svg")].find((svg) => svg.getBoundingClientRect().width > 0);
}

function scale(svg) {
  const { low, high, left, right } = svg.dataset;
  const wide = svg.viewBox.baseVal.width - left - right;
  return {
    day: (x) => Math.floor(+low + ((x - left) / wide) * (high - low)),
    x: (at) => +left + ((at + 0.5 - low) / (high - low)) * wide,
  };
}

function tell(wanted) {
  const svg = picture();
  const all = rows();
  const reading = document.getElementById("reading");
  if (!svg || !all.length || !reading) return;
  reading.dataset.usual ??= reading.textContent;
  const cursor = svg.querySelector(".cursor");
  const row = wanted === null ? null : (all.find((one) => +one.dataset.day >= wanted) ?? all[all.length - 1]);
  day = row && +row.dataset.day;
  cursor.classList.toggle("on", row !== null);
  reading.classList.toggle("bad", Boolean(row?.classList.contains("bad")));
  if (!row) {
    reading.textContent = reading.dataset.usual;
    return;
  }
  const x = scale(svg).x(day);
  cursor.setAttribute("x1", x);
  cursor.setAttribute("x2", x);
  const [name, loss, labelled, predictions, champion] = [...row.children].map((cell) => cell.textContent.trim());
  const limit = document.querySelector(".limit-text")?.textContent;
  const seen = labelled === "0" ? "nothing labelled" : `${loss} over ${labelled} labelled`;
  reading.textContent =
    `${name}: ${seen} of ${predictions} predictions, served by ${champion}` + (limit ? `; ${limit}` : "");
}

document.addEventListener("pointermove", (event) => {
  const svg = event.target.closest?.("[data-curve] svg");
  if (!svg) {
    if (day !== null && document.activeElement !== figure()) tell(null);
    return;
  }
  const box = svg.getBoundingClientRect();
  tell(scale(svg).day(((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width));
});

document.addEventListener("keydown", (event) => {
  if (document.activeElement !== figure() || event.ctrlKey || event.metaKey || event.altKey) return;
  const all = rows().map((row) => +row.dataset.day);
  const place = all.indexOf(day);
  const wanted = {
    ArrowLeft: () => all[Math.max(0, (place < 0 ? all.length : place) - 1)],
    ArrowRight: () => all[Math.min(all.length - 1, place + 1)],
    Home: () => all[0],
    End: () => all[all.length - 1],
    Escape: () => null,
  }[event.key];
  if (!wanted) return;
  event.preventDefault();
  tell(wanted());
});

document.addEventListener("focusout", (event) => {
  if (event.target === figure()) tell(null);
});
document.addEventListener("renewed", () => {
  if (day !== null) tell(day);
});
