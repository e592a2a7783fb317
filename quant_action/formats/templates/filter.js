(() => {
  const controls = document.getElementById("controls");
  if (!controls) return;
  const fields = [...controls.querySelectorAll("input, select")];
  const rows = [...document.querySelectorAll("#regressions tbody tr")].map((row) => ({ row, text: row.textContent.toLowerCase() }));
  const apply = () => {
    let shown = 0;
    for (const { row, text } of rows) {
      const fits = fields.every(({ name, value }) =>
        name === "filter" ? text.includes(value.trim().toLowerCase()) : !value || row.dataset[name] === value);
      row.hidden = !fits;
      shown += fits;
    }
    document.getElementById("shown").textContent = `${shown} of ${rows.length} shown`;
  };
  const read = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) if (asked.has(field.name)) field.value = asked.get(field.name);
    apply();
  };
  controls.hidden = false;
  controls.addEventListener("input", apply);
  addEventListener("hashchange", read);
  read();
})();
