"use strict";
// Searches, filters and sorts the questions, and sorts tables by their columns. Without it the page reads the same.
(() => {
  const byId = (id) => document.getElementById(id);

  // Tables: a click on a heading sorts by it, a second one the other way round.
  const key = (row, column) => {
    const text = row.cells[column].firstChild ? row.cells[column].firstChild.textContent.trim() : "";
    const number = parseFloat(text.replace(/,/g, "").replace("\u2212", "-"));
    return [Number.isNaN(number) ? null : number, text];
  };
  const compare = ([a, s], [b, t]) => (a !== null && b !== null ? a - b : a !== null ? -1 : b !== null ? 1 : s.localeCompare(t));
  const sortBy = (table, column, heading) => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a, column), key(b, column)) * (down ? -1 : 1));
    table.tBodies[0].append(...rows);
  };
  for (const table of document.querySelectorAll("table:not(.answers)")) {
    if (table.tBodies[0].rows.length < 3) continue;
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      if (!heading.textContent) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sortBy(table, column, heading));
      heading.append(button);
    });
  }

  // Questions.
  const tools = byId("tools");
  if (!tools) return;
  const list = byId("list");
  const questions = [...list.children].map((element, order) => {
    const marks = {};
    for (const mark of element.querySelectorAll(".mark")) marks[mark.dataset.variant] = mark.dataset;
    return { element, order, marks, text: element.textContent.toLowerCase(), right: Number(element.dataset.right) };
  });
  const score = (question, variant) => {
    const value = question.marks[variant] ? parseFloat(question.marks[variant].score) : NaN;
    return Number.isNaN(value) ? -1 : value;
  };
  const orders = {
    order: () => 0,
    id: (a, b) => a.element.dataset.id.localeCompare(b.element.dataset.id, undefined, { numeric: true }),
    fewest: (a, b) => a.right - b.right,
    most: (a, b) => b.right - a.right,
    best: (a, b, variant) => score(b, variant) - score(a, variant),
  };
  const shows = {
    all: () => true,
    differ: (question) => question.element.dataset.differs === "true",
    right: (question, variant) => question.marks[variant] !== undefined && question.marks[variant].verdict === "right",
    wrong: (question, variant) => question.marks[variant] !== undefined && question.marks[variant].verdict !== "right",
  };
  const update = () => {
    const words = byId("find").value.toLowerCase().split(/\s+/).filter((word) => word);
    const [show, showVariant] = byId("show").value.split(" ");
    const [sort, sortVariant] = byId("sort").value.split(" ");
    let count = 0;
    for (const question of questions) {
      const isShown = words.every((word) => question.text.includes(word)) && shows[show](question, showVariant);
      question.element.hidden = !isShown;
      if (isShown) count += 1;
    }
    const sorted = [...questions].sort((a, b) => orders[sort](a, b, sortVariant) || a.order - b.order);
    list.append(...sorted.map((question) => question.element));
    byId("count").textContent = `${count} of ${questions.length}`;
  };
  // A view can be kept in the address: #questions?find=blue&show=differ&sort=fewest
  const recall = () => {
    const [place, query] = location.hash.slice(1).split("?");
    if (place !== "questions" || query === undefined) return;
    const wanted = new URLSearchParams(query);
    for (const id of ["find", "show", "sort"]) {
      if (!wanted.has(id)) continue;
      const before = byId(id).value;
      byId(id).value = wanted.get(id);
      if (byId(id).value === "" && id !== "find") byId(id).value = before;
    }
    update();
    byId("questions").scrollIntoView();
  };
  for (const id of ["find", "show", "sort"]) {
    byId(id).addEventListener("input", () => {
      update();
      const query = new URLSearchParams();
      for (const name of ["find", "show", "sort"]) {
        const value = byId(name).value;
        if (value && value !== "all" && value !== "order") query.set(name, value);
      }
      history.replaceState(null, "", query.size > 0 ? `#questions?${query}` : "#questions");
    });
  }
  window.addEventListener("hashchange", recall);
  tools.hidden = false;
  update();
  recall();
})();
