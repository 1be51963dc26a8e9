"use strict";
// Tables that sort and filter.

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.classList.contains("plain")) return;
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const keyed = [...body.rows].map((row) => [keyOf(row.cells[column]), row]);
      keyed.sort(([a], [b]) => compare(a, b, down ? -1 : 1));
      body.append(...keyed.map(([, row]) => row));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}

function keyOf(cell) {
  if (cell.dataset.value !== undefined) return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  const text = cell.textContent.trim();
  return text === "" ? null : text;
}

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null); // what has no value is last
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), "en", { numeric: true });
}

function filtering(input) {
  const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    rows.forEach((row, at) => { row.hidden = !words.every((word) => texts[at].includes(word)); });
  });
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
}

function counting(form) {
  const said = form.querySelector(".chosen");
  if (!said) return;
  const count = () => {
    const chosen = form.querySelectorAll("input[type=checkbox]:checked").length;
    said.textContent = chosen ? `${chosen} chosen` : "";
  };
  form.addEventListener("change", count);
  count();
}

document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelectorAll("input.filter").forEach(filtering);
document.querySelectorAll("form").forEach(counting);
