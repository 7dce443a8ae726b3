"use strict";
// The page's script: unpacks tables, plots and records when a reader comes near them. Whatever a record says is put in
// as text, never as markup, and the page's policy lets nothing else run or be fetched.
(() => {
  const byId = (id) => document.getElementById(id);
  const narrow = matchMedia("(max-width: 700px)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const print = matchMedia("print");

  function tell(error) {
    const place = byId("broken");
    place.textContent = `Part of this page could not be shown: ${error.message || error}. report.md and the CSV files beside it hold the same numbers.`;
    place.hidden = false;
    console.error(error);
  }

  // ---- what is packed in the page

  async function unpacked(id) {
    const bytes = Uint8Array.from(atob(byId(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  const once = (make) => {
    const kept = new Map();
    return (name) => {
      if (!kept.has(name)) kept.set(name, make(name));
      return kept.get(name);
    };
  };

  async function addressOf(name) {
    const text = await unpacked(`library-${name}`);
    return URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  }

  const dataTables = once(async () => (await import(await addressOf("datatables"))).default);

  const plotly = once(async () => {
    const address = await addressOf("plotly");
    await new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = address;
      script.onload = done;
      script.onerror = () => failed(new Error("the plotting library did not start"));
      document.head.append(script);
    });
    return window.Plotly;
  });

  const part = once(async (number) => JSON.parse(await unpacked(`part-${number}`)));

  function made(name, text, attributes = {}) {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  // ---- tables

  const VERDICTS = new Set(["reproduced", "above", "below", "disputed", "not-comparable", "no-figure", "not-run",
    "done", "failed", "oom", "unsupported"]);
  const textOf = (cell) => (typeof cell === "string" ? cell : cell.t);
  const valueOf = (cell) => (typeof cell === "string" ? cell : "v" in cell ? cell.v : cell.t);
  // DataTables decodes what it searches as HTML, so it is given text that is decoded into itself.
  const harmless = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");

  function display(cell) {
    const text = textOf(cell);
    if (typeof cell !== "string" && cell.r) {
      return made("a", text, { href: `#${cell.r}` });
    }
    const words = text.split(" · ");
    const box = made("span");
    if (words.every((word) => VERDICTS.has(word))) {
      for (const word of words) box.append(made("span", word, { class: `badge ${word}` }), " ");
    } else {
      box.textContent = text;
    }
    return box;
  }

  function column(sort, at) {
    const numeric = sort === "number";
    return {
      data: at,
      className: sort,
      cellType: at === 0 ? "th" : "td",
      createdCell: (cell) => at === 0 && cell.setAttribute("scope", "row"),
      // An empty cell is sorted below every number, and a column of numbers starts with its largest.
      type: numeric ? "num" : "string",
      orderSequence: numeric ? ["desc", "asc", ""] : ["asc", "desc", ""],
      render: (cell, kind) => {
        if (kind === "display") return display(cell);
        if (kind === "sort" || kind === "type") return numeric && cell === "" ? -Infinity : valueOf(cell);
        return harmless(textOf(cell));
      },
    };
  }

  const tables = new Map();

  const table = once(async (id) => {
    const DataTable = await dataTables();
    const { kinds: sorts, rows } = JSON.parse(await unpacked(`data-${id}`));
    const shown = new DataTable(byId(id), {
      data: rows,
      columns: sorts.map(column),
      order: [],
      autoWidth: false,
      pageLength: 25,
      lengthMenu: [25, 100, 500, { label: "all", value: -1 }],
      layout: { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: ["pageLength", "paging"] },
      language: {
        info: "_START_ to _END_ of _TOTAL_ rows",
        infoEmpty: "No rows",
        infoFiltered: "(of _MAX_)",
        lengthMenu: "Rows a page _MENU_",
        zeroRecords: "No row is like this.",
      },
    });
    tables.set(id, shown);
    ready(id, shown, rows);
    return shown;
  });

  function ready(id, shown, rows) {
    const box = byId(`${id}-box`);
    const scroll = byId(id).closest(".dt-layout-table");
    const caption = byId(id).caption.querySelector("[data-caption]").textContent;
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", caption);
    box.querySelector(".dt-paging nav")?.setAttribute("aria-label", `Pages: ${caption}`);
    box.querySelector(".dt-info").setAttribute("role", "status");
    box.querySelector("[data-search]").addEventListener("input", (event) => shown.search(event.target.value).draw());
    for (const select of box.querySelectorAll("select[data-column]")) {
      const at = Number(select.dataset.column);
      const apply = () => {
        const wanted = select.value;
        // "!a !b" leaves out what is a or b.
        const out = wanted.startsWith("!") ? wanted.slice(1).split(" !") : null;
        const fits = (_, __, index) => {
          const words = textOf(rows[index][at]).split(" · ");
          return out ? !out.some((word) => words.includes(word)) : words.includes(wanted);
        };
        shown.search.fixed(`column-${at}`, wanted === "" ? null : (text, row, index) => fits(text, row, index)).draw();
      };
      select.addEventListener("change", apply);
      if (select.value) apply();
    }
    box.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    box.querySelector("form").addEventListener("reset", (event) => {
      event.preventDefault(); // it would bring back what the page left out at first
      box.querySelector("[data-search]").value = "";
      for (const select of box.querySelectorAll("select[data-column]")) {
        select.value = "";
        shown.search.fixed(`column-${select.dataset.column}`, null);
      }
      shown.search("").order([]).draw();
    });
    box.dataset.ready = "yes";
  }

  // ---- plots

  const specs = once(async () => JSON.parse(await unpacked("data-plots")));
  const drawn = new Map();

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const light = print.matches;
    const of = (name) => (light && LIGHT[name]) || style.getPropertyValue(`--${name}`).trim();
    return { ink: of("ink"), muted: of("muted"), band: of("band"), bad: of("bad"), rule: of("rule"), paper: of("paper") };
  }
  const LIGHT = { ink: "#1a1c20", muted: "#5b6270", band: "#e2e5ea", bad: "#b00020", rule: "#d9dce2", paper: "#ffffff" };

  function painted(value, colours) {
    if (Array.isArray(value)) return value.map((each) => painted(each, colours));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, painted(each, colours)]));
    }
    return typeof value === "string" && value[0] === "@" ? colours[value.slice(1)] || value : value;
  }

  // Only colours are looked up: what stands in names and hover texts stays as it is.
  function traceOf(trace, colours) {
    const shown = { ...trace };
    for (const key of ["marker", "line", "error_y"]) if (shown[key]) shown[key] = painted(shown[key], colours);
    return shown;
  }

  function layoutOf(spec, colours) {
    const axis = { gridcolor: colours.rule, zerolinecolor: colours.rule, linecolor: colours.muted, automargin: true };
    const font = { family: "system-ui, sans-serif", size: 12, color: colours.ink };
    const title = (given) => ({ ...given.title, standoff: 12 });
    return {
      height: spec.height,
      margin: { l: 56, r: 12, t: 12, b: 48 },
      font,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hovermode: "closest",
      hoverlabel: { align: "left", bgcolor: colours.paper, bordercolor: colours.muted, font },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.muted, activecolor: colours.ink },
      barmode: "overlay",
      dragmode: narrow.matches ? false : "zoom",
      legend: { orientation: "h", y: -0.22, yanchor: "top", x: 0, font: { size: 11 }, itemsizing: "constant" },
      xaxis: { ...axis, ...spec.layout.xaxis, title: title(spec.layout.xaxis) },
      yaxis: { ...axis, ...spec.layout.yaxis, title: title(spec.layout.yaxis) },
    };
  }

  function paint(Plotly, id, spec) {
    const colours = theme();
    const buttons = [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]];
    const config = { displaylogo: false, responsive: true, modeBarButtons: buttons };
    return Plotly.react(byId(id), spec.traces.map((t) => traceOf(t, colours)), layoutOf(spec, colours), config);
  }

  const plot = once(async (id) => {
    const [Plotly, every] = await Promise.all([plotly(), specs()]);
    await paint(Plotly, id, every[id]);
    drawn.set(id, every[id]);
    byId(id).on("plotly_click", (event) => {
      const to = event.points[0] && event.points[0].customdata;
      if (to) location.hash = to;
    });
    byId(id).dataset.ready = "yes";
  });

  function repaint() {
    if (window.Plotly) for (const [id, spec] of drawn) paint(window.Plotly, id, spec);
  }

  // ---- records

  const record = once(async (id) => {
    const stub = byId(id);
    const place = [...byId("records").querySelectorAll("details.record")].indexOf(stub);
    const size = Number(byId("records").dataset.part);
    const { facts, json } = (await part(Math.floor(place / size)))[place % size];
    const list = made("dl", undefined, { class: "known" });
    for (const [name, text] of facts) {
      const pair = made("div");
      pair.append(made("dt", name), made("dd", text));
      list.append(pair);
    }
    const whole = made("details");
    whole.append(made("summary", "As JSON"), made("pre", JSON.stringify(json, null, 2), { tabindex: "0" }));
    stub.append(list, whole);
    stub.dataset.ready = "yes";
  });

  async function follow() {
    const target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
    if (target.classList.contains("record")) {
      await record(target.id);
      target.querySelector("summary").focus({ preventScroll: true });
    } else {
      target.focus({ preventScroll: true });
    }
    target.scrollIntoView();
  }

  // ---- when

  const kinds = [
    ["table[data-table]", table],
    ["[data-plot]", plot],
  ];
  const visible = (element) => element.getClientRects().length > 0;
  const safely = (make) => (id) => make(id).catch(tell);

  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        for (const [selector, make] of kinds) if (target.matches(selector)) safely(make)(target.id);
      }
    },
    { rootMargin: "400px" },
  );

  // After the first screen the rest is made ready, one thing at a time, so that printing and searching find it.
  async function rest() {
    for (const [selector, make] of kinds) {
      for (const element of document.querySelectorAll(selector)) {
        await new Promise((done) => (window.requestIdleCallback || setTimeout)(done, { timeout: 500 }));
        if (visible(element)) await safely(make)(element.id);
      }
    }
    document.documentElement.dataset.ready = "yes";
  }

  let lengths = null;
  function printing(on) {
    if (on && !lengths) {
      lengths = new Map([...tables].map(([id, shown]) => [id, shown.page.len()]));
      for (const shown of tables.values()) shown.page.len(-1).draw();
    } else if (!on && lengths) {
      for (const [id, length] of lengths) tables.get(id).page.len(length).draw();
      lengths = null;
    }
    repaint();
  }

  document.addEventListener(
    "toggle",
    (event) => {
      if (event.target.matches("details.record") && event.target.open) safely(record)(event.target.id);
    },
    true,
  );
  addEventListener("hashchange", () => follow().catch(tell));
  addEventListener("beforeprint", () => printing(true));
  addEventListener("afterprint", () => printing(false));
  print.addEventListener("change", () => printing(print.matches));
  dark.addEventListener("change", repaint);
  for (const [selector] of kinds) for (const element of document.querySelectorAll(selector)) near.observe(element);
  follow().catch(tell);
  addEventListener("load", () => setTimeout(() => rest().catch(tell), 200));
})();
