// A formula wider than a phone scrolls in its own box; so that it does by keyboard too, the box can be reached.
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  for (const formula of document.querySelectorAll("mjx-container[display]")) formula.tabIndex = 0;
});

// A table that does not fit becomes a list: each row a block, each cell behind the name of its column.
const PHONE = window.matchMedia("(max-width: 767.98px)");

function columnNames(table) {
  const names = [];
  for (const row of table.tHead?.rows ?? []) {
    let column = 0;
    for (const cell of row.cells) {
      for (let n = 0; n < cell.colSpan; n++, column++) {
        const text = cell.innerText.trim();
        names[column] = [names[column], text].filter(Boolean).join(", ");
      }
    }
  }
  return names;
}

function asList(table) {
  const names = columnNames(table);
  table.setAttribute("role", "table");
  for (const body of table.tBodies) body.setAttribute("role", "rowgroup");
  const above = []; // for each column, the further rows that a cell above reaches into
  for (const row of [...table.tBodies].flatMap((body) => [...body.rows])) {
    row.setAttribute("role", "row");
    let column = 0;
    for (const cell of row.cells) {
      while (above[column]) above[column++] -= 1;
      above[column] = cell.rowSpan - 1;
      cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
      if (names[column] && column > 0) cell.dataset.column = names[column];
      column += cell.colSpan;
    }
  }
}

function fit() {
  for (const table of document.querySelectorAll("main table")) {
    table.classList.remove("hmoe-list");
    const box = table.closest(".hmoe-scroll, .pst-scrollable-table-container, .output") ?? table.parentElement;
    if (!PHONE.matches || !table.tHead || box.scrollWidth <= box.clientWidth + 1) continue;
    if (!table.hasAttribute("role")) asList(table);
    table.classList.add("hmoe-list");
  }
}

window.addEventListener("load", fit);
PHONE.addEventListener("change", fit);
document.addEventListener("toggle", fit, true); // what is folded has no width until it is opened

// Where a question (Q1, Q2, ...) is cited, what it is: for whoever points at it or reaches it by keyboard.
window.addEventListener("load", () => {
  const box = document.createElement("div");
  box.id = "hmoe-preview";
  box.setAttribute("role", "tooltip");
  box.hidden = true;
  document.body.append(box);

  const hide = () => {
    box.hidden = true;
  };
  for (const link of document.querySelectorAll("a[data-preview]")) {
    const show = () => {
      box.textContent = link.dataset.preview;
      box.hidden = false;
      const at = link.getBoundingClientRect();
      const below = at.bottom + box.offsetHeight + 8 < window.innerHeight;
      box.style.left = `${Math.max(8, Math.min(at.left, window.innerWidth - box.offsetWidth - 8))}px`;
      box.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - box.offsetHeight - 4)}px`;
    };
    link.setAttribute("aria-describedby", box.id);
    for (const event of ["mouseenter", "focus"]) link.addEventListener(event, show);
    for (const event of ["mouseleave", "blur"]) link.addEventListener(event, hide);
  }
  window.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
});
