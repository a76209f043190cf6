// Tables of class "sortable": a click on a heading sorts by that column, another click reverses the order. Without this
// script they are plain tables. Cells without a number stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const value = (row, column) => {
    const text = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
  };
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const falling = heading.getAttribute("aria-sort") === "descending";
      const sign = falling ? 1 : -1;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", falling ? "ascending" : "descending");
      const rows = [...original].sort((one, other) => {
        const [a, b] = [value(one, column), value(other, column)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      });
      body.append(...rows);
    });
  });
}
