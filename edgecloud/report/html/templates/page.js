"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const T = read("texts");
  const data = read("data");
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, key) => (key in values ? values[key] : all));
  const make = (tag, properties = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (value === undefined || value === null) continue;
      if (name === "class") node.className = value;
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  };
  const save = (name, type, text) => {
    const url = URL.createObjectURL(new Blob([text], { type }));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  };

  // Theme
  const themeButtons = [...document.querySelectorAll("[data-theme-choice]")];
  for (const button of themeButtons) {
    button.addEventListener("click", () => {
      const choice = button.dataset.themeChoice;
      if (choice === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = choice;
      for (const other of themeButtons) other.setAttribute("aria-pressed", String(other === button));
    });
  }

  // Which series are shown, in each group: columns, cards, and what is drawn of them.
  const hidden = data.map(() => new Set());
  const close = (svg, numbers) => { // the gaps that hidden series leave, in what is drawn and in what is read out
    const said = svg.querySelector("desc");
    said.kept ??= [...said.children];
    said.replaceChildren(...said.kept.filter((part) => !numbers.has(parseInt(part.className.slice(4), 10))));
    svg.closest("figure").classList.toggle("off", !said.children.length);
    if (!svg.dataset.pitch) return;
    let gone = 0;
    for (const part of svg.querySelector("g").children) {
      if (!part.classList.contains("fixed")) part.setAttribute("transform", `translate(0 ${-gone * svg.dataset.pitch})`);
      if (part.classList.contains("off")) gone += 1;
    }
    svg.dataset.height ??= svg.viewBox.baseVal.height;
    svg.viewBox.baseVal.height = svg.dataset.height - gone * svg.dataset.pitch;
  };
  const apply = (group) => {
    for (const box of document.querySelectorAll(`[data-group="${group}"]`)) {
      for (const arm of data[group].arms) {
        const off = hidden[group].has(arm.number);
        for (const node of box.querySelectorAll(`.arm-${arm.number}`)) node.classList.toggle("off", off);
      }
      for (const svg of box.querySelectorAll("figure svg")) close(svg, hidden[group]);
    }
  };
  for (const choice of document.querySelectorAll("[data-choose]")) {
    const group = Number(choice.dataset.choose);
    const boxes = [...choice.querySelectorAll("input")];
    const changed = () => {
      hidden[group] = new Set(boxes.filter((box) => !box.checked).map((box) => Number(box.value)));
      apply(group);
      weigh();
      choose();
    };
    choice.hidden = false;
    choice.addEventListener("change", changed);
    for (const button of choice.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        for (const box of boxes) box.checked = button.dataset.shown === "all";
        changed();
      });
    }
  }

  // Figures as files: in the light theme, whatever the page shows.
  const light = read("theme");
  for (const button of document.querySelectorAll("[data-svg]")) {
    button.addEventListener("click", () => {
      const svg = document.querySelector(`#${button.dataset.svg} svg`).cloneNode(true);
      for (const part of svg.querySelectorAll(".off")) part.remove();
      const [, , width, height] = svg.getAttribute("viewBox").split(" ");
      svg.setAttribute("width", `${width}pt`);
      svg.setAttribute("height", `${height}pt`);
      svg.setAttribute("font-family", "Helvetica, Arial, 'Noto Sans', 'Noto Sans CJK SC', sans-serif");
      const text = new XMLSerializer().serializeToString(svg);
      save(
        `${button.dataset.svg}.svg`,
        "image/svg+xml",
        text.replace(/var\(--([\w-]+)\)/g, (all, role) => light[role] || all),
      );
    });
  }

  // Folded tables are printed unfolded.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open])")];
    for (const details of unfolded) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of unfolded) details.open = false;
  });

  // The sample explorer
  const FIRST = 12;
  const STEP = 24;
  const LETTERS = { e: "edge", v: "verified", c: "corrected", b: "bonus", k: "cloud" };
  const INK = { e: "edge", v: "verified", c: "corrected", b: "bonus", k: "cloud" };
  const cards = document.getElementById("cards");
  const more = document.getElementById("more");
  const count = document.getElementById("count");
  const form = document.getElementById("filters");
  const tip = document.getElementById("tip");
  let recordings = null;
  const recording = (number) => {
    recordings = recordings || read("audio");
    return recordings[number];
  };

  const words = (its) => (its.p ? its.p.join("") : its.w || "");
  const share = (its, letter) => {
    if (!its || !its.o) return 0;
    let found = 0;
    for (const one of its.o) if (one === letter) found += 1;
    return found / its.o.length;
  };
  let all = [];
  const weigh = () => { // what each sample is found and sorted by, of the series that are shown
    all = data.flatMap((group, number) => weighed(group, number));
  };
  const weighed = (group, number) => {
    const seen = [...group.arms.keys()].filter((index) => !hidden[number].has(group.arms[index].number));
    const specs = seen.filter((index) => group.arms[index].mode === "spec");
    const mixed = specs.length ? specs : seen;
    const { edge, cloud } = group.compared;
    return group.samples.map((sample) => {
      const some = seen.map((index) => sample.a[index]).filter(Boolean);
      const ok = some.filter((its) => its.s !== "failed");
      const score = (index) => sample.a[index]?.q ?? null;
      const between = (a, b) => (a === null || b === null ? -Infinity : a - b);
      const most = (difference) => Math.max(-Infinity, ...specs.map(difference));
      const times = {}; // the longest by each clock
      for (const index of seen) {
        const its = sample.a[index];
        const clock = `time:${group.arms[index].clock}`;
        if (its && its.s !== "failed") times[clock] = Math.max(times[clock] || 0, its.t || 0);
      }
      return {
        sample,
        group,
        number,
        mixed,
        text: [sample.id, ...sample.refs, ...ok.map(words)].join("\n").toLowerCase(),
        failed: some.some((its) => its.s === "failed"),
        degraded: ok.some((its) => its.d),
        differs: new Set(ok.map(words)).size > 1,
        wrong: ok.some((its) => its.m === 0),
        gain: most((index) => between(score(index), score(edge[index]))),
        loss: most((index) => between(score(cloud[index]), score(index))),
        time: Math.max(0, ...Object.values(times)),
        ...times,
      };
    });
  };

  let shown = [];
  let drawn = 0;
  const choose = () => {
    const value = (name) => (form.elements[name] ? form.elements[name].value : "");
    const text = value("text").trim().toLowerCase();
    const [group, status, origin, sort] = ["group", "status", "origin", "sort"].map(value);
    const least = Number(value("least")) / 100;
    form.elements.least_text.value = `${value("least")}%`;
    form.elements.least.disabled = !origin;
    shown = all.filter(
      (one) =>
        (!text || one.text.includes(text)) &&
        (group === "" || one.number === Number(group)) &&
        (status === "all" || one[status]) &&
        (!origin || one.mixed.some((index) => {
          const its = share(one.sample.a[index], origin);
          return its > 0 && its >= least;
        })),
    );
    const rank = (one) => one[sort] ?? -Infinity;
    if (sort !== "order") shown.sort((a, b) => rank(b) - rank(a) || 0);
    count.textContent = shown.length ? fill(T.shown, { shown: shown.length, all: all.length }) : T.none_found;
    cards.replaceChildren();
    drawn = 0;
    hide();
    draw(FIRST);
  };
  const draw = (number) => {
    cards.append(...shown.slice(drawn, drawn + number).map(card));
    drawn = Math.min(drawn + number, shown.length);
    more.hidden = drawn >= shown.length;
  };
  const card = (one) => {
    const { sample, group } = one;
    const head = make("div", { class: "sample-head" }, make("h4", {}, sample.id));
    const facts = [data.length > 1 ? group.name : "", sample.dur ? `${sample.dur.toFixed(1)} s` : ""];
    head.append(make("span", { class: "muted" }, facts.filter(Boolean).join(" · ")));
    if (sample.audio !== null) {
      head.append(make("audio", {
        controls: "", preload: "none", src: recording(sample.audio), "aria-label": fill(T.play, { id: sample.id }),
      }));
    } else head.append(make("span", { class: "muted" }, T.no_audio));
    const arms = make("div", { class: "arms" });
    sample.a.forEach((its, index) => {
      if (its && !hidden[one.number].has(group.arms[index].number)) arms.append(arm(its, group.arms[index], group.lang));
    });
    const references = make("ul", { class: "refs", lang: sample.rl });
    for (const reference of sample.refs) references.append(make("li", {}, reference));
    const box = make("div", { class: "refs-box" }, make("h5", {}, T.references),
      sample.refs.length ? references : make("span", { class: "muted" }, T.no_references));
    return make("article", { class: "sample", "aria-label": sample.id }, head, arms, box);
  };
  const arm = (its, about, lang) => {
    const line = make("div", { class: "arm-line" },
      make("span", { class: "arm-name", style: `--arm: var(--${about.role})` }, make("span", { class: `dot m${about.mark}` }), about.name));
    if (its.s === "failed") {
      line.append(make("span", { class: "bad" }, `${T.failed}: ${its.e}`));
      return make("div", { class: "arm" }, line);
    }
    const add = (text, kind) => line.append(make("span", { class: kind }, text));
    if (its.q !== null) add(`CIDEr ${its.q.toFixed(2)}`);
    if (its.m !== null) add(its.m ? T.emotion_right : T.emotion_wrong, its.m ? undefined : "warned");
    if (its.t !== null) add(`${its.t >= 100 ? its.t.toFixed(0) : its.t.toPrecision(3)} s`);
    if (its.d) add(T.degraded, "warned");
    const present = Object.keys(LETTERS).filter((letter) => its.o.includes(letter));
    if (present.length > 1) line.append(bar(its, present));
    const caption = make("p", { class: present.length > 1 ? "caption" : "caption uniform", lang });
    if (its.p) {
      caption.tabIndex = 0;
      caption.setAttribute("role", "group");
      caption.setAttribute("aria-label", fill(T.caption_of, { arm: about.name }));
      its.p.forEach((piece, index) => {
        const end = !piece && index === its.p.length - 1;
        if (!piece && !end) return;
        const token = make("span", { class: `t o-${its.o[index]}` }, end ? "\u2060\u202f\u220e" : piece);
        token.dataset.index = index;
        caption.append(token);
      });
      about_of.set(caption, its);
    } else {
      caption.textContent = its.w;
      add(T.tokens_unknown);
    }
    return make("div", { class: "arm" }, line, caption);
  };
  const about_of = new WeakMap();
  const bar = (its, present) => {
    const said = present.map((letter) => `${T[`origin_${LETTERS[letter]}`]} ${Math.round(share(its, letter) * 100)}%`).join(", ");
    const box = make("span", { class: "share", role: "img", "aria-label": said, title: said });
    for (const letter of present) {
      box.append(make("i", { style: `width: ${share(its, letter) * 100}%; background: var(--${INK[letter]})` }));
    }
    return box;
  };

  // What is known of a token: on hover, on tap, and with the arrow keys.
  const explain = (token) => {
    const its = about_of.get(token.parentElement);
    const index = Number(token.dataset.index);
    const parts = [T[`origin_${LETTERS[its.o[index]]}_long`]];
    if (!its.p[index]) parts.unshift(T.tip_end);
    const entropy = its.h ? its.h[index] : -1;
    if (entropy >= 0) parts.push(fill(T.tip_entropy, { value: (entropy / 100).toFixed(2) }));
    else parts.push(T.tip_no_entropy);
    const correction = its.x && its.x[index];
    if (correction) {
      parts.push(fill(T.tip_proposed, { text: correction[0].trim() || correction[0] }));
      if (correction[1] !== null) parts.push(fill(T.tip_rank, { value: correction[1] + 1 }));
    }
    return parts.join(" · ");
  };
  let at = null;
  const show = (token) => {
    if (at) at.classList.remove("at");
    at = token;
    at.classList.add("at");
    tip.textContent = explain(token);
    tip.hidden = false;
    place();
  };
  const place = () => {
    const box = at.getClientRects()[0];
    const left = Math.min(Math.max(8, box.left), innerWidth - tip.offsetWidth - 8);
    const above = box.top - tip.offsetHeight - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : box.bottom + 8}px`;
  };
  const hide = () => {
    if (at) at.classList.remove("at");
    at = null;
    tip.hidden = true;
  };
  cards.addEventListener("pointerover", (event) => {
    if (event.target.classList.contains("t")) show(event.target);
  });
  cards.addEventListener("pointerout", (event) => {
    if (event.target === at && event.pointerType === "mouse") hide();
  });
  cards.addEventListener("focusout", hide);
  addEventListener("scroll", () => { if (at) place(); }, { passive: true });
  cards.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hide();
    const caption = event.target.closest(".caption");
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!caption || !step || !caption.children.length) return undefined;
    event.preventDefault();
    const tokens = [...caption.children];
    const now = tokens.indexOf(at);
    const next = now < 0 ? (step > 0 ? 0 : tokens.length - 1) : now + step;
    show(tokens[Math.min(Math.max(next, 0), tokens.length - 1)]);
    return undefined;
  });

  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(choose));
  more.addEventListener("click", () => {
    const next = drawn;
    draw(STEP);
    const first = cards.children[next] && cards.children[next].querySelector(".caption, audio");
    if (first) first.focus({ preventScroll: true });
  });
  document.getElementById("samples-csv").addEventListener("click", () => {
    const names = ["id", "language", "prompt_type", "arm", "status", "caption", "cider", "emotion_accuracy",
      "total_time_s", "edge", "verified", "corrected", "bonus", "cloud", "references"];
    const quote = (value) => `"${String(value ?? "").replace(/"/g, '""')}"`;
    const lines = [names.map(quote).join(",")];
    for (const { sample, group, number } of shown) {
      sample.a.forEach((its, index) => {
        if (!its || hidden[number].has(group.arms[index].number)) return;
        const counts = Object.keys(LETTERS).map((letter) => Math.round(share(its, letter) * (its.o || "").length));
        lines.push([sample.id, group.language, group.prompt, group.arms[index].id, its.s || (its.d ? "degraded" : "ok"),
          its.s ? its.e : words(its), its.q, its.m, its.t, ...counts, sample.refs.join(" | ")].map(quote).join(","));
      });
    }
    save("samples.csv", "text/csv", `\ufeff${lines.join("\n")}\n`);
  });
  weigh();
  choose();
  document.documentElement.dataset.ready = "true";
})();
