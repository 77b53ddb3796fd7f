"use strict";
// Everything is readable without this script; it adds sorting, filters and enlarged pictures.

function sortKey(row, index, numeric) {
  const cell = row.cells[index];
  const text = cell.textContent.trim();
  if (!numeric) return text === "" ? null : text;
  const number = Number.parseFloat(cell.dataset.value ?? text);
  return Number.isNaN(number) ? null : number;
}

function sortBy(header, index) {
  const numeric = "numeric" in header.dataset;
  // The first click on numbers shows the highest first, on names the alphabet.
  const first = numeric ? "descending" : "ascending";
  const second = numeric ? "ascending" : "descending";
  const direction = header.getAttribute("aria-sort") === first ? second : first;
  const sign = direction === "ascending" ? 1 : -1;
  const body = header.closest("table").tBodies[0];
  const rows = [...body.rows].map((row) => [sortKey(row, index, numeric), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // what was not run stays last
    return sign * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
  });
  body.append(...rows.map(([, row]) => row));
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
}

for (const header of document.querySelectorAll("table.sortable thead th")) {
  if (header.textContent === "configuration") continue;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = header.textContent;
  header.replaceChildren(button);
  button.addEventListener("click", () => sortBy(header, header.cellIndex));
}

const form = document.getElementById("filters");
const marked = [...document.querySelectorAll("[data-dataset], [data-ipc]")];

function filter() {
  const chosen = [...new FormData(form)].filter(([, value]) => value !== "");
  for (const element of marked) {
    element.hidden = chosen.some(([key, value]) => {
      const own = element.dataset[key];
      if (own === undefined) return false;
      return key === "ipc" ? !own.split(" ").includes(value) : own !== value;
    });
  }
  for (const numbers of document.querySelectorAll("details.numbers")) {
    if (!numbers.querySelector("tbody tr:not([hidden])")) numbers.hidden = true;
    if (form.elements.dataset.value === numbers.dataset.dataset) numbers.open = true;
  }
  const tables = [...document.querySelectorAll("section.table")];
  const shown = tables.filter((table) => table.closest("[hidden]") === null).length;
  document.getElementById("shown").textContent =
    shown === 0 ? "No table has all of this." : `${shown} of ${tables.length} tables shown.`;
}

form.hidden = false;
form.addEventListener("change", filter);
form.addEventListener("reset", () => setTimeout(filter)); // after the values were reset
form.addEventListener("submit", (event) => event.preventDefault());
filter(); // browsers keep choices over a reload

for (const image of document.querySelectorAll(".sheet img")) {
  const figure = image.parentElement;
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-label", `Enlarge: ${image.alt}`);
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    const large = figure.classList.toggle("large");
    button.setAttribute("aria-pressed", String(large));
  });
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = target?.closest("details");
  if (!details) return;
  details.open = true;
  target.scrollIntoView();
  target.focus({ preventScroll: true });
}
addEventListener("hashchange", reveal);
reveal();
