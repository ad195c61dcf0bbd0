// Shows what was answered as it came: each answer's timing says after how many seconds how many characters were there.
"use strict";
const rounds = [...document.querySelectorAll(".round")];
const play = document.getElementById("play"), speed = document.getElementById("speed");
const answers = (round) => [...round.querySelectorAll(".answer")].map((shown) => ({
  shown, end: shown.nextElementSibling, text: shown.textContent, timing: JSON.parse(shown.dataset.timing),
  signs: [...shown.textContent], // as they were counted: one that JavaScript has in two halves is one
}));
const all = rounds.map(answers);
let playing = 0;

const reveal = () => all.forEach((its, number) => {
  rounds[number].hidden = false;
  for (const one of its) { one.shown.textContent = one.text; one.end.hidden = false; }
});

const show = (its, seconds) => {
  let done = true;
  for (const one of its) {
    const there = one.timing.filter(([at]) => at <= seconds).at(-1);
    const ended = !one.timing.length || seconds >= one.timing.at(-1)[0];
    one.shown.textContent = ended ? one.text : one.signs.slice(0, there ? there[1] : 0).join("");
    one.end.hidden = !ended;
    done = done && ended;
  }
  return done;
};

const run = async () => {
  const mine = ++playing;
  play.textContent = "Show all";
  for (const round of rounds) round.hidden = true;
  for (const [number, its] of all.entries()) {
    rounds[number].hidden = false;
    let seconds = 0, before = performance.now();
    while (mine === playing && !show(its, seconds)) {
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      seconds += (now - before) / 1000 * Number(speed.value);
      before = now;
    }
    if (mine !== playing) return;
  }
  stop();
};

const stop = () => { playing++; reveal(); play.textContent = "Play"; };

document.getElementById("tools").hidden = false;
play.addEventListener("click", () => (play.textContent === "Play" ? run() : stop()));
