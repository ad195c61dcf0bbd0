// What only the browser can do: keys, clipboard, light and dark, large type, scrolling along.
() => {
  const root = document.documentElement;
  const one = (selector) => document.querySelector(selector);
  const shown = (element) => element && element.offsetParent !== null;
  const buttonOf = (id) => {
    const element = document.getElementById(id);
    return element && (element.tagName === "BUTTON" ? element : element.querySelector("button"));
  };

  const flash = (id, text) => {
    const button = buttonOf(id);
    if (!button || button.dataset.flashing) return;
    const before = button.textContent;
    button.dataset.flashing = "1";
    button.textContent = text;
    setTimeout(() => { button.textContent = before; delete button.dataset.flashing; }, 1400);
  };

  const copy = async (text, id) => {
    if (!text) return;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without a secure context (a page served over plain HTTP to another machine) this is the way left.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    flash(id, "Copied");
  };

  const press = (id, on) => buttonOf(id)?.setAttribute("aria-pressed", String(on));
  const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* private window */ } };
  const recall = (key) => { try { return localStorage.getItem(key); } catch { return null; } };

  const setDark = (on) => { document.body.classList.toggle("dark", on); press("dark-toggle", on); };
  const setLarge = (on) => { root.classList.toggle("cp-large", on); press("large-toggle", on); };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const asked = new URLSearchParams(location.search).get("__theme");
  const chosen = asked || recall("counterpoint-theme");
  setDark(chosen ? chosen === "dark" : system.matches);
  system.addEventListener("change", (event) => { if (!recall("counterpoint-theme")) setDark(event.matches); });
  setLarge(recall("counterpoint-large") === "1");

  window.counterpoint = {
    copy,
    copyLink: (query, id) => copy(location.origin + location.pathname + query, id),
    focus: (id) => setTimeout(() => one(`#${id} textarea, #${id} input`)?.focus(), 60),
    toggleDark: () => {
      const on = !document.body.classList.contains("dark");
      setDark(on);
      remember("counterpoint-theme", on ? "dark" : "light");
    },
    toggleLarge: () => {
      const on = !root.classList.contains("cp-large");
      setLarge(on);
      remember("counterpoint-large", on ? "1" : "0");
    },
  };

  // Enter while answers run would do nothing: the button beside the box says why.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    for (const [box, stop] of [["question", "stop-all"], ["chat-box", "chat-stop"]]) {
      if (event.target.closest(`#${box}`) && shown(buttonOf(stop))) flash(stop, "Still answering");
    }
  }, true);

  // A picker too narrow for its mode's name tells the whole of it to whoever points at it.
  document.addEventListener("mouseover", (event) => {
    if (event.target.matches(".cp-mode input")) event.target.title = event.target.value;
  });

  // What a fold beside the question opens would lie below the window.
  document.addEventListener("click", (event) => {
    const composer = event.target.closest(".cp-composer button.label-wrap")?.closest(".cp-composer");
    if (composer) setTimeout(() => composer.scrollIntoView({ block: "end", behavior: "smooth" }), 120);
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    if (one('[role="listbox"]')) return;
    for (const id of ["stop-all", "chat-stop"]) if (shown(buttonOf(id))) buttonOf(id).click();
  });

  // A pane scrolls along with its answer, unless its reader has scrolled up.
  const follow = (body) => {
    if (body.dataset.followed) return;
    body.dataset.followed = "1";
    body.tabIndex = 0;
    body.setAttribute("role", "region");
    body.setAttribute("aria-label", "Answer");
    let along = true;
    body.addEventListener("scroll", () => {
      along = body.scrollHeight - body.scrollTop - body.clientHeight < 40;
    });
    const keepUp = () => { if (along) body.scrollTop = body.scrollHeight; };
    // Sizes too: a notice may be laid out after its text came, and the lines below the answer may take its room.
    const sizes = new ResizeObserver(keepUp);
    const sized = new WeakSet();
    const watch = () => [body, ...body.children].filter((part) => !sized.has(part)).forEach((part) => {
      sized.add(part);
      sizes.observe(part);
    });
    watch();
    new MutationObserver(() => { watch(); keepUp(); })
      .observe(body, { childList: true, subtree: true, characterData: true });
  };
  const followAll = () => {
    document.querySelectorAll(".cp-body").forEach(follow);
    document.querySelectorAll("button.label-wrap").forEach((fold) => {
      fold.setAttribute("aria-expanded", String(fold.classList.contains("open")));
    });
  };
  // A report that is refreshed while somebody reads it keeps open what its reader opened: Gradio closes it.
  const opened = new Set();
  const foldOf = (fold) => {
    const own = fold.querySelector(":scope > [id]")?.id || fold.querySelector("summary")?.textContent;
    return `${fold.parentElement?.closest("[id]")?.id} ${own}`;
  };
  document.addEventListener("click", ({ target }) => {
    const fold = target.closest("#measure-report summary")?.parentElement;
    if (fold) opened[fold.open ? "delete" : "add"](foldOf(fold));
  });
  const reopen = (fold) => { if (opened.has(foldOf(fold))) fold.open = true; };
  document.addEventListener("toggle", ({ target }) => {
    if (target.matches("#measure-report details")) reopen(target);
  }, true);
  const reopenAll = () => {
    if (opened.size) document.querySelectorAll("#measure-report details:not([open])").forEach(reopen);
  };

  followAll();
  const app = one("gradio-app") || document.body;
  let due = false;
  new MutationObserver(() => {
    if (due) return;
    due = true;
    setTimeout(() => { due = false; followAll(); reopenAll(); }, 400);
  }).observe(app, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });
}
